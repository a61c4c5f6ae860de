"""`up`, `down`, `workers`."""

import os
import select
import signal
from collections.abc import Iterable
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from codeframe.cli.command import console, data_dir, find_lead, lead_address, run_async
from codeframe.cli.failure import CommandFailed
from codeframe.cli.folder import running
from codeframe.cli.key import missing_key
from codeframe.cli.names import spoken
from codeframe.cli.up import UpSettings, serve_up
from codeframe.client import Client
from codeframe.v1 import state_pb2

_DOWN_SECONDS = 120.0

sandbox = click.option(
    "--sandbox",
    type=click.Choice(["auto", "bubblewrap", "sandlock", "none"]),
    help="How workers confine the project's commands.  [default: auto]",
)
_SERVERS = ("lead", "gateway", "up")


def _own_roles(
    context: click.Context, parameter: click.Parameter, given: tuple[Path, ...]
) -> tuple[Path, ...]:
    folders = tuple(folder.absolute() for folder in given)
    for folder in folders:
        if not (folder / "role.toml").is_file():
            raise click.BadParameter(f"{folder} has no role.toml; docs/roles.md says what one is")
        if folder.name in _SERVERS or [other.name for other in folders].count(folder.name) > 1:
            raise click.BadParameter(f"{folder}: the name {folder.name} is taken; rename the folder")
    return folders


own_roles = click.option(
    "--role",
    "own_roles",
    multiple=True,
    type=click.Path(path_type=Path),
    callback=_own_roles,
    metavar="PATH",
    help="Folder of a role of your own, which a worker more serves; repeat it for several.",
)
model = click.option("--model", help="The model that workers ask where a task names none.")


@click.command()
@data_dir
@sandbox
@model
@own_roles
@click.option("--slots", type=click.IntRange(1, 100), help="Attempts a worker does at the same time.")
@click.option(
    "--lead-port", type=click.IntRange(1, 65535), help="Port of the lead.  [default: 50051, if free]"
)
@click.option(
    "--gateway-port", type=click.IntRange(1, 65535), help="Port of the gateway.  [default: 8080, if free]"
)
@click.option("--exit-with-parent", is_flag=True, hidden=True)
def up(
    folder: Path,
    sandbox: str | None,
    model: str | None,
    own_roles: tuple[Path, ...],
    slots: int | None,
    lead_port: int | None,
    gateway_port: int | None,
    exit_with_parent: bool,
) -> None:
    """Run lead, workers and gateway until stopped; each is started again when it dies."""
    settings = UpSettings(
        folder=folder,
        sandbox=sandbox or "",
        model=model or "",
        own_roles=own_roles,
        slots=slots or 0,
        lead_port=lead_port or 0,
        gateway_port=gateway_port or 0,
        exit_with_parent=exit_with_parent,
    )
    if missing := missing_key(os.environ):
        click.echo(f"{missing}. Until then workers start, and refuse tasks.", err=True)
    run_async(serve_up(settings, click.echo))


@click.command()
@data_dir
def down(folder: Path) -> None:
    """Stop the fleet of a data folder; workers push what they have."""
    found = running(folder)
    if found is None:
        raise CommandFailed(f"no fleet is running in {folder}")
    process = os.pidfd_open(found.pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        click.echo(f"stopping the fleet in {folder}; workers push what they have")
        if not select.select([process], [], [], _DOWN_SECONDS)[0]:
            raise CommandFailed(f"process {found.pid} is still stopping after {_DOWN_SECONDS:g} s")
    finally:
        os.close(process)


@click.command()
@data_dir
@lead_address
def workers(folder: Path, lead: str | None) -> None:
    """List the workers that the lead knows."""
    run_async(_workers(find_lead(lead, folder)))


async def _workers(address: str) -> None:
    table = Table("worker", "address", "roles", "state", "slots", "sandbox", "model", "problem", box=None)
    async with Client(address) as client:
        async for each in client.workers():
            confined = Text(each.sandbox_mode, style="bold yellow" if each.sandbox_mode == "none" else "")
            table.add_row(
                each.name,
                each.address,
                ", ".join(each.roles),
                spoken(state_pb2.AgentState, each.state),
                f"{each.in_flight}/{each.slots}",
                confined,
                Text(each.model),
                Text(each.problem or _paused(each.provider_pauses)),
            )
    console.print(table)


def _paused(pauses: Iterable[state_pb2.ProviderPause]) -> str:
    """Until when the provider asks to wait, in UTC."""
    return ", ".join(
        f"{pause.model_family} paused until {pause.resume_time.ToDatetime():%H:%M:%S}" for pause in pauses
    )
