"""Settings that every server has: flags, or CODEFRAME_* variables."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from services.runtime.logs import FORMATS, LEVELS

CONTEXT = {"auto_envvar_prefix": "CODEFRAME", "show_default": True, "max_content_width": 110}
"""Settings of a service's click command: every flag also reads CODEFRAME_<FLAG>."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What every server is told. `port` 0 means any free one, told in the ready file."""

    host: str
    port: int
    data_dir: Path
    ready_file: Path | None
    exit_with_parent: bool
    log_format: str
    log_level: str
    drain_seconds: float


def _loopback(context: click.Context, parameter: click.Parameter, host: str) -> str:
    try:
        allowed = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        allowed = False
    if not allowed:
        raise click.BadParameter(
            f"{host} is not a loopback address; TLS and tokens, which any other needs, are not built yet"
        )
    return host


def _data_dir(context: click.Context, parameter: click.Parameter, path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise click.BadParameter(f"cannot make {path}: {error.strerror}") from None
    return path.resolve()


def _option(name: str, help: str, **settings: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(f"--{name}", help=help, show_envvar=True, **settings)


def server_options(
    *, port: int, data_dir: str, drain_seconds: float = 20.0
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates a click command with the shared flags; it gets them as `settings: ServerSettings`."""
    path = click.Path(path_type=Path)
    options = [
        _option("host", "Address to bind; loopback only.", default="127.0.0.1", callback=_loopback),
        _option("port", "Port to bind; 0 takes a free one.", default=port, type=click.IntRange(0, 65535)),
        _option(
            "data-dir",
            "Folder for what outlives the process.",
            default=data_dir,
            type=path,
            callback=_data_dir,
        ),
        _option("ready-file", "Written with the bound address once the server answers.", type=path),
        _option("exit-with-parent", "Stop when the process that started this one ends.", is_flag=True),
        _option("log-format", "How log lines look.", default="human", type=click.Choice(FORMATS)),
        _option("log-level", "The least that is logged.", default="info", type=click.Choice(LEVELS)),
        _option(
            "drain-seconds",
            "Time for work in hand after SIGTERM.",
            default=drain_seconds,
            type=click.FloatRange(0, 3600),
        ),
    ]
    names = ServerSettings.__dataclass_fields__

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def gather(**values: Any) -> None:
            settings = ServerSettings(**{name: values.pop(name) for name in names})
            command(settings=settings, **values)

        for option in reversed(options):
            gather = option(gather)
        return gather

    return decorate
