"""A `grpc.aio` server with health, reflection, validation, and a two-stage stop."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as aio_health
from grpc_reflection.v1alpha import reflection

from services.runtime.channel import MAX_REPLY, MAX_REQUEST
from services.runtime.interceptors import EdgeInterceptor
from services.runtime.process import CannotStart, Stop, stop_on_signals
from services.runtime.settings import ServerSettings

log = structlog.get_logger()

Drain = Callable[[asyncio.Event], Awaitable[None]]

HASTE_SECONDS = 15.0
"""What a drain gets, at most, once it was hastened: time to push, not to finish."""

_OPTIONS: tuple[tuple[str, int], ...] = (
    # Without it a second server binds the same port in silence.
    ("grpc.so_reuseport", 0),
    # A burst of calls is refused before any handler runs unless these are raised.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    # Peers may ping every 10 s.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A peer that vanished is noticed, though nothing is sent to it.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", MAX_REQUEST),
    ("grpc.max_send_message_length", 2 * MAX_REPLY),
)
_AGES_CONNECTIONS = (
    ("grpc.max_connection_age_ms", 30 * 60_000),
    # Without a grace a stream would never end.
    ("grpc.max_connection_age_grace_ms", 30_000),
)
# An idle stream costs 20 KB, so this many cost 1 GB.
_MAX_CALLS = 50_000


class Server:
    """One gRPC server process.

    Register servicers on `grpc`, then `await run()`. `services` are the full names of what is
    served: they get a health state and are listed by reflection. `ages_connections` ends a
    connection after 30 min, with a grace for streams to resume (leads do, workers do not).
    """

    def __init__(
        self, settings: ServerSettings, services: Sequence[str], *, ages_connections: bool = False
    ) -> None:
        self._settings = settings
        self._services = tuple(services)
        self.grpc: grpc.aio.Server = grpc.aio.server(
            options=(*_OPTIONS, *(_AGES_CONNECTIONS if ages_connections else ())),
            interceptors=[EdgeInterceptor()],
            maximum_concurrent_rpcs=_MAX_CALLS,
        )
        self._health = aio_health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*services, health, reflection.SERVICE_NAME), self.grpc)
        self.address = ""

    async def run(self, drain: Drain | None = None) -> None:
        """Serve until asked to stop, then in two stages: drain, then end what is left.

        `drain` is awaited once health says NOT_SERVING. It gets an event that is set when the
        drain time is over or the stop is asked for again, and is cut off 15 s after the drain
        time. Raises CannotStart where the port is taken or the ready file cannot be written.
        """
        async with stop_on_signals(with_parent=self._settings.exit_with_parent) as stop:
            try:
                await self.start()
                await stop.asked.wait()
                log.info("stopping", drain_seconds=self._settings.drain_seconds)
                await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)
                if drain is not None:
                    await self._drain(drain, stop)
            finally:
                if self.address and self._settings.ready_file:
                    self._settings.ready_file.unlink(missing_ok=True)
                await self.grpc.stop(grace=1.0)
        log.info("stopped")

    async def start(self) -> None:
        """Bind and answer. Raises CannotStart where the port is taken."""
        host, port = self._settings.host, self._settings.port
        name = f"[{host}]" if ":" in host else host
        try:
            bound = self.grpc.add_insecure_port(f"{name}:{port}")
        except RuntimeError:
            raise CannotStart(
                f"cannot bind {name}:{port}: it is taken or not allowed; choose another with --port"
            ) from None
        await self.grpc.start()
        self.address = f"{name}:{bound}"
        await self._tell(health_pb2.HealthCheckResponse.SERVING)
        if self._settings.ready_file:
            write_ready(self._settings.ready_file, self.address)
        log.info("serving", address=self.address)

    async def _drain(self, drain: Drain, stop: Stop) -> None:
        seconds = self._settings.drain_seconds
        hasten = asyncio.get_running_loop().call_later(seconds, stop.hastened.set)
        try:
            async with asyncio.timeout(seconds + HASTE_SECONDS) as limit:
                await drain(stop.hastened)
        except TimeoutError:
            if not limit.expired():
                raise
            log.error("work in hand was cut off: it did not end in time")
        finally:
            hasten.cancel()

    async def _tell(self, state: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        for name in ("", *self._services):
            await self._health.set(name, state)


def write_ready(path: Path, address: str) -> None:
    """Tell a parent where the server answers: whole or not at all. Raises CannotStart."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        scratch.write_text(f"{address}\n")
        scratch.replace(path)
    except OSError as error:
        raise CannotStart(f"cannot write the ready file {path}: {error.strerror}") from None
