"""The engine itself: one short script on Redis that keeps a row and puts its id into a list, and nothing around it."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.raw import PAYLOAD

SCRIPT = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('RPUSH', KEYS[2], ARGV[1])"
KEYS = ("{raw}:rows", "{raw}:ready")
PIPELINE = 1000


class RawRedis:
    """One connection."""

    def __init__(self, url: str) -> None:
        from redis import Redis

        self._client = Redis.from_url(url)
        self._digest = self._client.script_load(SCRIPT)

    def rows_one_by_one(self, count: int) -> None:
        """A script call, and a round trip, per row."""
        for index in range(count):
            self._client.evalsha(self._digest, 2, *KEYS, _id(index), PAYLOAD)

    def rows_in_bulk(self, count: int) -> None:
        """The same call for each row, many in a round trip."""
        for start in range(0, count, PIPELINE):
            pipeline: Any = self._client.pipeline(transaction=False)
            for index in range(start, min(start + PIPELINE, count)):
                pipeline.evalsha(self._digest, 2, *KEYS, _id(index), PAYLOAD)
            pipeline.execute()

    def close(self) -> None:
        self._client.close()


def _id(index: int) -> str:
    """As long as an id of ours."""
    return f"{index:036d}"
