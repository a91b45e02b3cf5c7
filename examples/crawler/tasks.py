"""A polite crawler: for each host a rate and a limit, however many runners there are."""

import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from pynenc import ConcurrencyControlType, Pynenc

app = Pynenc(app_id="crawler", store="memory://", runner_cls="ThreadRunner")

LINK = re.compile(r'href="([^"]+)"')


@dataclass
class Page:
    url: str
    status: int
    links: list[str]


@app.task(
    # at most two requests to one host at the same time, and ten starts in any half second
    running_concurrency=ConcurrencyControlType.KEYS,
    running_limit=2,
    rate_limit="10/0.5s",
    key_arguments=("host",),
    # a page that waits to be fetched is not asked for twice
    registration_concurrency=ConcurrencyControlType.ARGUMENTS,
    max_retries=2,
    retry_for=(ConnectionError, TimeoutError),
)
def fetch(host: str, url: str) -> Page:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
            return Page(url, answer.status, [urljoin(url, link) for link in LINK.findall(text)])
    except urllib.error.HTTPError as error:
        return Page(url, error.code, [])


@app.task
def crawl(start: str) -> list[Page]:
    """All pages that can be reached from one, a generation at a time."""
    seen: set[str] = set()
    found: list[Page] = []
    wave = {start}
    while wave:
        seen |= wave
        calls = [(urlsplit(url).netloc, url) for url in sorted(wave)]
        pages = list(fetch.parallelize(calls).results)
        found += pages
        wave = {link for page in pages for link in page.links} - seen
    return found
