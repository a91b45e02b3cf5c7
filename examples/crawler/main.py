"""Serve a small site from this process, crawl it with a runner in this process, check how polite it was.

python main.py
"""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tasks import app, crawl, fetch

PAGES = 24


class Site(BaseHTTPRequestHandler):
    """Page n links to pages 2n and 2n + 1; the server notes how often and how many at once it was asked."""

    requests = 0
    inside = 0
    most = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        with Site.lock:
            Site.requests += 1
            Site.inside += 1
            Site.most = max(Site.most, Site.inside)
        time.sleep(0.005)
        number = int(self.path.strip("/"))
        links = [f'<a href="/{other}">' for other in (2 * number, 2 * number + 1)] if number <= PAGES else []
        with Site.lock:
            Site.inside -= 1
        self.send_response(200 if number <= PAGES else 404)
        self.end_headers()
        self.wfile.write("".join(links).encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serving():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/1"
    server.shutdown()
    server.server_close()


@contextmanager
def running():
    thread = threading.Thread(target=app.runner.run)
    thread.start()
    yield
    app.runner.stop_runner_loop()
    thread.join()


def main() -> None:
    with serving() as start:
        host = urlsplit(start).netloc
        first, again = fetch(host, start), fetch(host, start)
        assert first == again  # it waits already, so nobody asks twice
        with running():
            pages = crawl(start).result
    fine = [page for page in pages if page.status == 200]
    broken = [page for page in pages if page.status == 404]
    assert len(fine) == PAGES
    assert Site.requests == len(pages) + 1  # the first page again, as its first fetch had begun by then
    assert Site.most <= 2
    # ten starts in any half second, by the clock of the store
    fetches = app.find_invocations(tasks=("tasks.fetch",), limit=200)
    claims = sorted(entry.at for fetched in fetches for entry in fetched.history if entry.status == "pending")
    assert all(late - early >= 500_000 for early, late in zip(claims, claims[10:], strict=False))
    print(f"{len(fine)} pages, {len(broken)} broken links, at most {Site.most} requests at once")


if __name__ == "__main__":
    main()
