"""`watch`, `runs`, `show`, `cancel`: a run that is there."""

import sys
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from codeframe.cli.command import console, data_dir, find_lead, lead_address, run_async
from codeframe.cli.failure import CANCELLED, NOT_COMPLETED, CommandFailed
from codeframe.cli.folder import running
from codeframe.cli.follow import Followed, follow
from codeframe.cli.names import run_state
from codeframe.cli.report import report
from codeframe.cli.screen import Screen
from codeframe.cli.view import RunView
from codeframe.cli.while_up import ending_of, while_up
from codeframe.client import Client
from codeframe.v1 import lead_pb2, state_pb2


async def follow_and_report(client: Client, run: lead_pb2.Run, *, own: bool) -> tuple[Followed, int]:
    """Show a run until its end, then what it came to; with the exit code that it deserves."""
    view = RunView(run)
    with Screen(view, console) as screen:
        followed = await follow(client, run.run_id, screen, view, own=own)
    if followed is Followed.DETACHED:
        return followed, CANCELLED
    console.print()
    final = await report(client, run.run_id, console)
    if followed is Followed.CANCELLED:
        return followed, CANCELLED
    return followed, 0 if final.state == state_pb2.RUN_STATE_COMPLETED else NOT_COMPLETED


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@data_dir
@lead_address
def watch(run_id: str | None, folder: Path, lead: str | None) -> None:
    """Follow RUN (default: the newest) to its end. Ctrl-C leaves it running.

    Exits 0 where every task completed, 1 where not, 130 after Ctrl-C.
    """
    stopped = None if lead else ending_of(running(folder))
    sys.exit(run_async(while_up(_watch(find_lead(lead, folder), run_id), stopped)))


async def _watch(address: str, run_id: str | None) -> int:
    async with Client(address) as client:
        run = await client.get_run(run_id) if run_id else await _newest(client)
        _, code = await follow_and_report(client, run, own=False)
        return code


async def _newest(client: Client) -> lead_pb2.Run:
    """Raises CommandFailed where there is none."""
    newest = (await client.list_runs(lead_pb2.ListRunsRequest(page_size=1))).runs
    if not newest:
        raise CommandFailed("there is no run yet: start one with `codeframe run`")
    return newest[0]


@click.command()
@click.option("--project", default="", help="Only this project's.")
@data_dir
@lead_address
def runs(project: str, folder: Path, lead: str | None) -> None:
    """List runs, newest first."""
    run_async(_runs(find_lead(lead, folder), project))


async def _runs(address: str, project: str) -> None:
    table = Table("run", "project", "state", "completed", "created (UTC)", "title", box=None)
    async with Client(address) as client:
        async for each in client.runs(project):
            created = each.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M")
            completed = f"{each.counts.completed}/{each.counts.total}"
            if each.counts.unverified:
                completed += f", {each.counts.unverified} UNVERIFIED"
            title = Text(each.title, overflow="ellipsis", no_wrap=True)
            table.add_row(each.run_id, each.project, run_state(each.state), completed, created, title)
    console.print(table)


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option(
    "--artifact",
    nargs=2,
    metavar="ATTEMPT NAME",
    help="Write an artifact's bytes to standard output instead, such as the diff of an attempt.",
)
@data_dir
@lead_address
def show(run_id: str | None, artifact: tuple[str, str] | None, folder: Path, lead: str | None) -> None:
    """Show RUN (default: the newest): its tasks, its attempts with their evidence, and what it took."""
    run_async(_show(find_lead(lead, folder), run_id, artifact))


async def _show(address: str, run_id: str | None, artifact: tuple[str, str] | None) -> None:
    async with Client(address) as client:
        if artifact is None:
            await report(client, run_id or (await _newest(client)).run_id, console, attempts=True)
            return
        async for chunk in client.read_artifact(*artifact):
            sys.stdout.buffer.write(chunk)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--message", default="cancelled at the command line", help="Why, for people.")
@data_dir
@lead_address
def cancel(run_id: str, message: str, folder: Path, lead: str | None) -> None:
    """Ask RUN to end; what was merged stays on its branch."""
    run_async(_cancel(find_lead(lead, folder), run_id, message))


async def _cancel(address: str, run_id: str, message: str) -> None:
    async with Client(address) as client:
        cancelled = await client.cancel_run(run_id, message)
        console.print(Text(f"run {run_id}: {run_state(cancelled.state)}"))
