"""The Redis store."""

from pynenc.store.redis.store import RedisStore

__all__ = ["RedisStore"]
