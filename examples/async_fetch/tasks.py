"""Async tasks: one process has many of them in flight."""

import asyncio

from pynenc import Pynenc

app = Pynenc(app_id="async_fetch", runner={"processes": 1, "threads": 1, "coroutines": 100})


@app.task(timeout=10, retry_for=(ConnectionError,), max_retries=3, retry_delay=0.05)
async def ask(port: int, question: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{question}\n".encode())
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.decode().strip()


@app.task
async def ask_all(port: int, questions: list[str]) -> list[str]:
    calls = ask.parallelize([(port, question) for question in questions])
    return [answer async for answer in calls.async_results()]
