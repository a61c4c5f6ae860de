"""uvicorn, started and stopped as our servers are."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from gateway.streams import Streams
from services.runtime.process import CannotStart, Stop


class HttpServer(uvicorn.Server):
    """Serves an application on one listening socket; signals are the process's, not uvicorn's."""

    def __init__(
        self, app: ASGIApp, listening: socket.socket, ready: Callable[[], None], drain_seconds: float
    ) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws="websockets-sansio",
            ws_max_size=64 * 1024,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=max(1, round(drain_seconds)),
        )
        super().__init__(config)
        self._listening = listening
        self._ready = ready

    async def run_until(self, stop: Stop, streams: Streams) -> None:
        """Serve until asked to stop, then in two stages: streams end, the rest has the drain time;
        hastened, it has none."""
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(self._stop(stop, streams))
            await self.serve(sockets=[self._listening])
            stopping.cancel()

    async def _stop(self, stop: Stop, streams: Streams) -> None:
        await stop.asked.wait()
        streams.stop()
        await streams.ended()  # Each says that it is the gateway that goes; uvicorn would say another thing.
        self.should_exit = True
        await stop.hastened.wait()
        self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then the server answers, and says so."""
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen. Raises CannotStart where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise CannotStart(
            f"cannot bind {host}:{port}: {error.strerror}; choose another with --port"
        ) from None
