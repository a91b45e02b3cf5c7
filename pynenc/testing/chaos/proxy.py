"""A TCP proxy before a server, for the harm that a network does: connections that are cut, fall silent, or lose the answer to what was done."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable

from pynenc.testing.servers.local import LocalServer

_CHUNK = 1 << 16


class Proxy(LocalServer):
    """Passes everything on to a server."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._writers: set[StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._loses = False
        self._left: int | None = None
        #: Whether the next answer is lost.
        self.is_losing = False
        super().__init__()

    # -- harm, from any thread ---------------------------------------------------------------------------------------------
    def cut(self) -> None:
        """Reset all connections."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def lose_replies(self, seconds: float) -> None:
        """For some time pass on what is asked, and cut the connection instead of passing on the answer."""
        self._during(seconds, lambda is_on: setattr(self, "_loses", is_on))

    def lose_next_reply(self) -> None:
        """Pass on what is asked next, and cut the connection instead of passing on the answer."""
        self.is_losing = True

    def freeze(self, seconds: float) -> None:
        """For some time pass nothing on, in either direction, and tell nobody: connections look open."""
        self._during(seconds, lambda is_on: self._flows.clear() if is_on else self._flows.set())

    def hold_after(self, count: int | None) -> None:
        """Let so many bytes of what the server says through, and swallow all that follows; None: everything."""
        self._left = count

    def _during(self, seconds: float, switch: Callable[[bool], object]) -> None:
        self._loop.call_soon_threadsafe(switch, True)
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, switch, False)

    def _abort_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    # -- passing on ----------------------------------------------------------------------------------------------------------
    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        pair = [writer]
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self._upstream)
            pair.append(upstream)
            self._writers.update(pair)
            ways = (
                self._pass(reader, upstream, self._keep, bytes),
                self._pass(upstream_reader, writer, self._keep_unless_lost, self._allowed),
            )
            _, others = await asyncio.wait(map(asyncio.ensure_future, ways), return_when=asyncio.FIRST_COMPLETED)
            for other in others:  # it may stand still for ever
                other.cancel()
        except OSError:  # the server is not there
            pass
        finally:
            for each in pair:
                each.transport.abort()
            self._writers.difference_update(pair)

    async def _pass(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        may_pass: Callable[[], Awaitable[bool]],
        let_through: Callable[[bytes], bytes],
    ) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if not await may_pass():
                    return
                writer.write(let_through(data))
                await writer.drain()
        except OSError:
            pass

    async def _keep(self) -> bool:
        await self._flows.wait()
        return True

    async def _keep_unless_lost(self) -> bool:
        await self._flows.wait()
        is_lost, self.is_losing = self.is_losing, False
        return not (is_lost or self._loses)

    def _allowed(self, answer: bytes) -> bytes:
        if self._left is None:
            return answer
        part = answer[: self._left]
        self._left -= len(part)
        return part
