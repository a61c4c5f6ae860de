"""A `grpc.aio` server with health, reflection, validation, and a two-stage stop."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as aio_health
from grpc_reflection.v1alpha import reflection

from services.runtime.channel import MAX_REPLY, MAX_REQUEST
from services.runtime.interceptors import EdgeInterceptor
from services.runtime.process import CannotStart, stop_on_signals
from services.runtime.settings import ServerSettings

log = structlog.get_logger()

_OPTIONS: tuple[tuple[str, int], ...] = (
    # Without it a second server binds the same port in silence.
    ("grpc.so_reuseport", 0),
    # A burst of calls is refused before any handler runs unless these are raised.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", MAX_REQUEST),
    ("grpc.max_send_message_length", 2 * MAX_REPLY),
)
_LEAD_OPTIONS = (("grpc.max_connection_age_ms", 30 * 60_000), ("grpc.max_connection_age_grace_ms", 30_000))


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
        options = (*_OPTIONS, *(_LEAD_OPTIONS if ages_connections else ()))
        self.grpc: grpc.aio.Server = grpc.aio.server(options=options, interceptors=[EdgeInterceptor()])
        self._health = aio_health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        names = (
            *services,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(names, self.grpc)
        self.address = ""

    async def start(self) -> None:
        """Bind and answer. Raises CannotStart where the port is taken."""
        host, port = self._settings.host, self._settings.port
        try:
            bound = self.grpc.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError:
            raise CannotStart(
                f"cannot bind {host}:{port}: it is taken or not allowed; choose another with --port"
            ) from None
        await self.grpc.start()
        self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        await self._tell(health_pb2.HealthCheckResponse.SERVING)
        if self._settings.ready_file:
            write_ready(self._settings.ready_file, self.address)
        log.info("serving", address=self.address)

    async def run(self, drain: Callable[[asyncio.Event], Awaitable[None]] | None = None) -> None:
        """Serve until asked to stop, then in two stages: drain, then end what is left.

        `drain` is awaited for at most the drain time after health says NOT_SERVING; it gets an
        event that is set when the stop is asked for again, and should then hasten.
        """
        async with stop_on_signals(with_parent=self._settings.exit_with_parent) as stop:
            await self.start()
            await stop.asked.wait()
            log.info("stopping", drain_seconds=self._settings.drain_seconds)
            await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)
            if drain:
                await drain(stop.hastened)
            await self.grpc.stop(grace=1.0)
        if self._settings.ready_file:
            self._settings.ready_file.unlink(missing_ok=True)
        log.info("stopped")

    async def _tell(self, state: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        for name in ("", *self._services):
            await self._health.set(name, state)


def write_ready(path: Path, address: str) -> None:
    """Tell a parent where the server answers: whole or not at all."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_text(address + "\n")
    scratch.replace(path)
