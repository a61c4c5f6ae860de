"""Settings that every server has: flags, or CODEFRAME_* variables."""

import ipaddress
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from services.runtime.logs import FORMATS, LEVELS

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


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


class ServerCommand(click.Command):
    """A click command whose every flag also reads CODEFRAME_<FLAG>, and whose errors are one line."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        context = {"auto_envvar_prefix": "CODEFRAME", "show_default": True, "max_content_width": 110}
        super().__init__(name, **{"context_settings": context, **settings})

    def main(self, *args: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """As click's, but that it prints an error as one line."""
        run: Any = super().main
        try:
            code = run(*args, standalone_mode=False, **settings)
        except click.ClickException as error:
            if not standalone_mode:
                raise
            click.echo(f"error: {error.format_message()}", err=True)
            code = error.exit_code
        if standalone_mode:
            sys.exit(code)
        return code


def server_options(*, port: int, data_dir: str, drain_seconds: float = 20.0) -> Decorator:
    """Gives a click command the shared flags, which it gets as `settings: ServerSettings`.

    `data_dir` is the default folder: relative to codeframe's own below the user's state folder.
    The folder is made once all settings are known to be good.
    """
    path = click.Path(path_type=Path)
    options = [
        _option("host", "Address to bind; loopback only.", default="127.0.0.1", callback=_loopback),
        _option("port", "Port to bind; 0 takes a free one.", default=port, type=click.IntRange(0, 65535)),
        _option(
            "data-dir",
            "Folder for what outlives the process.",
            default=lambda: state_folder() / data_dir,
            show_default=f"$XDG_STATE_HOME/codeframe/{data_dir}",
            type=path,
        ),
        _option("ready-file", "Written with the bound address once the server answers.", type=path),
        _option("exit-with-parent", "Stop when standard input ends.", is_flag=True),
        _option("log-format", "How log lines look.", default="human", type=click.Choice(FORMATS)),
        _option("log-level", "The least that is logged.", default="info", type=click.Choice(LEVELS)),
        _option(
            "drain-seconds",
            "Time for work in hand after SIGTERM.",
            default=drain_seconds,
            type=click.FloatRange(0, 3600),
        ),
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_settings(**values: Any) -> None:
            shared = {field.name: values.pop(field.name) for field in fields(ServerSettings)}
            shared["data_dir"] = _made(shared["data_dir"])
            command(settings=ServerSettings(**shared), **values)

        decorated: Callable[..., None] = with_settings
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def state_folder() -> Path:
    """Where codeframe keeps what outlives its processes, below the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "codeframe"


def _option(name: str, help: str, **settings: Any) -> Decorator:
    return click.option(f"--{name}", help=help, show_envvar=True, **settings)


def _loopback(context: click.Context, parameter: click.Parameter, host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"  # the name may mean two addresses, of which one may be taken
    try:
        allowed = ipaddress.ip_address(host).is_loopback
    except ValueError:
        allowed = False
    if not allowed:
        raise click.BadParameter(
            f"{host} is not a loopback address such as 127.0.0.1 or ::1; "
            "any other needs TLS and tokens, which come with a later version."
        )
    return host


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise click.BadParameter(
            f"cannot make {folder}: {error.strerror}.", param_hint="--data-dir"
        ) from None
    return folder.resolve()
