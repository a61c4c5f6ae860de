"""What the commands share: their options, how a coroutine is run, and which lead is asked."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from codeframe.cli.failure import CANCELLED, CommandFailed
from codeframe.cli.folder import default_folder, running
from codeframe.client import CodeframeError

T = TypeVar("T")
PATH = click.Path(path_type=Path)
# A table in a file or a pipe is not cut.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)


def _folder(context: click.Context, parameter: click.Parameter, given: Path | None) -> Path:
    return (given or default_folder()).absolute()


def address(context: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    """A click callback: HOST:PORT, or nothing."""
    if given is not None:
        host, _, port = given.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise click.BadParameter(f"{given!r} is not HOST:PORT, such as 127.0.0.1:50051")
    return given


data_dir = click.option(
    "--data-dir",
    "folder",
    type=PATH,
    callback=_folder,
    envvar="CODEFRAME_DATA_DIR",
    show_envvar=True,
    help="Folder of `up`.  [default: $XDG_STATE_HOME/codeframe]",
)
lead_address = click.option(
    "--lead",
    callback=address,
    envvar="CODEFRAME_LEAD",
    show_envvar=True,
    metavar="HOST:PORT",
    help="A lead that runs elsewhere, instead of the one of --data-dir.",
)


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; an error of the lead's is one clear message."""
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())  # else each child would cost a thread
    try:
        return asyncio.run(_ungrouped(main))
    except CodeframeError as error:
        raise CommandFailed(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(CANCELLED)


async def _ungrouped(main: Coroutine[Any, Any, T]) -> T:
    """Take what a TaskGroup raised out of its group."""
    try:
        return await main
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def find_lead(named: str | None, folder: Path) -> str:
    """The address of the lead to ask. Raises CommandFailed where none runs."""
    if named:
        return named
    up = running(folder)
    if up is None:
        raise CommandFailed(
            f"no lead is running in {folder}: start one with `codeframe up`, or name one with --lead"
        )
    return up.lead
