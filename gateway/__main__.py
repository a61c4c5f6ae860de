"""`python -m gateway`."""

import click
import structlog

from codeframe.client import Client
from gateway.app import make_app
from gateway.server import HttpServer, listen
from gateway.streams import Streams
from services.runtime.process import run_process, stop_on_signals
from services.runtime.server import write_ready
from services.runtime.settings import ServerCommand, ServerSettings, server_options

log = structlog.get_logger()

# What a lead that is away may cost a JSON request.
_LEAD_SECONDS = 5.0


def _address(context: click.Context, parameter: click.Parameter, text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{text} is not HOST:PORT, such as 127.0.0.1:50051.")
    return text


@click.command(cls=ServerCommand)
@click.option(
    "--lead",
    default="127.0.0.1:50051",
    callback=_address,
    show_envvar=True,
    help="HOST:PORT of the lead.",
)
@click.option(
    "--max-streams",
    default=1000,
    type=click.IntRange(1, 100_000),
    show_envvar=True,
    help="Event streams and WebSockets that may be open.",
)
@server_options(port=8080, data_dir="gateway", drain_seconds=5.0)
def main(settings: ServerSettings, lead: str, max_streams: int) -> None:
    """Serve a lead's runs, tasks, artifacts and events over HTTP: JSON, server-sent events, WebSocket."""
    run_process("gateway", serve(settings, lead, max_streams), settings)


async def serve(settings: ServerSettings, lead: str, max_streams: int) -> None:
    """Serve until asked to stop. Raises CannotStart where the port is taken."""
    streams = Streams(max_streams)
    listening = listen(settings.host, settings.port)
    host, port = listening.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def ready() -> None:
        log.info("serving", address=f"http://{address}", lead=lead)
        if settings.ready_file:
            write_ready(settings.ready_file, address)

    async with (
        stop_on_signals(with_parent=settings.exit_with_parent) as stop,
        Client(lead, timeout=_LEAD_SECONDS) as client,
    ):
        server = HttpServer(make_app(client, streams), listening, ready, settings.drain_seconds)
        try:
            await server.run_until(stop, streams)
        finally:
            if settings.ready_file:
                settings.ready_file.unlink(missing_ok=True)
    log.info("stopped")


if __name__ == "__main__":
    main()
