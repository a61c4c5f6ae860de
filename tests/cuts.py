"""A TCP proxy on loopback, for tests of connections that drop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Cuts:
    """A TCP proxy to an address, which cuts all its connections when told.

    While `away`, it cuts every new one, too. It takes `slow` seconds to join one; `joined` is how many.
    """

    def __init__(self, target: str, slow: float = 0.0) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: asyncio.TaskGroup
        self.address = ""
        self.cuts = 0
        self.joined = 0
        self.away = False
        self._slow = slow

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Cuts"]:
        async with asyncio.TaskGroup() as self._tasks:
            server = await asyncio.start_server(self._join, "127.0.0.1", 0)
            self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            try:
                yield self
            finally:
                server.close()
                self.cut()

    def cut(self) -> None:
        """Abort every connection: what was on the way is lost."""
        self.cuts += bool(self._open)
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            writer.transport.abort()
            return
        self.joined += 1
        await asyncio.sleep(self._slow)
        try:
            there = await asyncio.open_connection(self._host, int(self._port))
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there[1]}
        self._tasks.create_task(self._pump(reader, there[1]))
        self._tasks.create_task(self._pump(there[0], writer))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1024):
                target.write(data)
                await target.drain()
        target.transport.abort()
