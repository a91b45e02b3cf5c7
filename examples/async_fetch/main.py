"""Serve slow answers from this process, ask a hundred questions through a runner with a single worker thread.

python main.py
"""

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from tasks import ask_all

QUESTIONS = [f"question {number}" for number in range(100)]
SLOW = 0.2


class Service:
    """Answers in capitals, after a while."""

    inside = 0
    most = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        question = await reader.readline()
        await asyncio.sleep(SLOW)
        writer.write(question.upper())
        await writer.drain()
        self.inside -= 1
        writer.close()


@contextmanager
def running():
    """A runner in a process of its own."""
    command = [sys.executable, "-m", "pynenc", "--app", "tasks", "runner", "start", "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=Path(__file__).parent)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


async def main() -> None:
    service = Service()
    async with await asyncio.start_server(service, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with running():
            invocation = await ask_all.async_call(port, QUESTIONS)
            answers = await invocation.async_result()
    assert answers == [question.upper() for question in QUESTIONS]
    assert service.most >= 20, service.most  # one thread could have had one at a time
    print(f"{len(answers)} answers, the last one: {answers[-1]}")
    print("asked at the same time: many")


if __name__ == "__main__":
    asyncio.run(main())
