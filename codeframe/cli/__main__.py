"""codeframe: runs plans of coding tasks, and shows what came of them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from codeframe.cli.failure import BAD_USAGE, CANCELLED, NOT_COMPLETED, CommandFailed
from codeframe.cli.folder import default_folder, running
from codeframe.cli.follow import Followed, follow
from codeframe.cli.own_up import OwnUp, own_up
from codeframe.cli.report import report
from codeframe.cli.screen import Screen
from codeframe.cli.up import UpSettings, serve_up
from codeframe.cli.view import RunView, run_state
from codeframe.client import Client, CodeframeError
from codeframe.planfile import PlanFile, PlanFileError, read_plan
from codeframe.project import parse_duration
from codeframe.v1 import lead_pb2, state_pb2

T = TypeVar("T")
PATH = click.Path(path_type=Path)
console = Console(highlight=False)

data_dir = click.option(
    "--data-dir", type=PATH, envvar="CODEFRAME_DATA_DIR", show_envvar=True,
    help="Folder of `up`; default $XDG_STATE_HOME/codeframe.",
)  # fmt: skip
lead_address = click.option(
    "--lead", envvar="CODEFRAME_LEAD", show_envvar=True, metavar="HOST:PORT",
    help="A lead that runs elsewhere, instead of the one of --data-dir.",
)  # fmt: skip
sandbox = click.option(
    "--sandbox", type=click.Choice(["auto", "bubblewrap", "sandlock", "none"]), default="auto",
    show_default=True, help="How workers confine the project's commands.",
)  # fmt: skip
model = click.option("--model", default="", help="The model that workers ask; default: theirs.")


@click.group(context_settings={"max_content_width": 110})
def main() -> None:
    """Runs plans of coding tasks on git repositories, and shows what came of them."""


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; an error of the lead's is one clear message."""
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        return asyncio.run(_plainly(main))
    except CodeframeError as error:
        raise CommandFailed(str(error)) from None


async def _plainly(main: Coroutine[Any, Any, T]) -> T:
    """Take what a TaskGroup raised out of its group."""
    try:
        return await main
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def find_lead(address: str | None, folder: Path | None) -> str:
    """The address of the lead to ask. Raises CommandFailed where none runs."""
    if address:
        return address
    up = running(folder or default_folder())
    if up is None:
        raise CommandFailed("no fleet is running: start one with `codeframe up`, or name one with --lead")
    return up.lead


@main.command()
@data_dir
@sandbox
@model
@click.option("--slots", type=click.IntRange(0, 64), default=0, help="Attempts a worker does at a time.")
@click.option("--lead-port", type=click.IntRange(0, 65535), default=0, help="Port of the lead; 0: any, kept.")
@click.option("--gateway-port", type=click.IntRange(0, 65535), default=0, help="Port of the gateway.")
def up(
    data_dir: Path | None, sandbox: str, model: str, slots: int, lead_port: int, gateway_port: int
) -> None:
    """Run lead, workers and gateway until stopped; each is started again when it dies."""
    settings = UpSettings(
        folder=(data_dir or default_folder()).resolve(),
        sandbox=sandbox,
        model=model,
        slots=slots,
        lead_port=lead_port,
        gateway_port=gateway_port,
    )
    if not os.environ.get("ANTHROPIC_API_KEY"):
        click.echo(
            "ANTHROPIC_API_KEY is not set: workers start, and refuse tasks until they have one", err=True
        )
    run_async(serve_up(settings, lambda line: click.echo(line)))


@main.command()
@data_dir
def down(data_dir: Path | None) -> None:
    """Stop the fleet of a data folder; workers push what they have."""
    folder = data_dir or default_folder()
    found = running(folder)
    if found is None:
        raise CommandFailed(f"no fleet is running in {folder}")
    process = os.pidfd_open(found.pid)
    os.kill(found.pid, signal.SIGTERM)
    click.echo("stopping")
    with os.fdopen(process, closefd=True):
        pass
    while running(folder) is not None:
        signal.sigtimedwait([], 0.1)


def _duration(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    duration = parse_duration(value)
    if duration is None:
        raise click.BadParameter(f'{value!r} is not a duration such as "90s", "30m" or "2h"')
    return duration


@main.command()
@click.argument("plan", type=PATH)
@click.option("--repo", required=True, help="URL or path of the git repository.")
@click.option("--base", default="", help="Branch, tag or commit to start from; default: HEAD.")
@click.option("--project", default="", help="Name to file the run under; default: the repository's.")
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Tasks done at the same time; default 5.")
@click.option("--timeout", callback=_duration, help='The whole run\'s time, such as "2h"; default 72h.')
@click.option("--fail-unserved", is_flag=True, help="Fail, rather than wait, where no worker serves a role.")
@data_dir
@lead_address
@sandbox
@model
def run(
    plan: Path,
    repo: str,
    base: str,
    project: str,
    concurrency: int | None,
    timeout: timedelta | None,
    fail_unserved: bool,
    data_dir: Path | None,
    lead: str | None,
    sandbox: str,
    model: str,
) -> None:
    """Run PLAN on a repository and follow it to its end.

    Exits 0 where every task completed, 1 where not, 2 for bad usage or a bad plan, 130 after a cancel.
    """
    plan_file = _read_plan(plan)
    limits = lead_pb2.RunLimits(concurrency=concurrency)
    if timeout is not None:
        limits.run_timeout.FromTimedelta(timeout)
    request = lead_pb2.CreateRunRequest(
        repository=str(Path(repo).resolve()) if Path(repo).exists() else repo,
        base=base,
        project=project,
        plan=plan_file.plan,
        limits=limits,
        unserved_role=(
            lead_pb2.UNSERVED_ROLE_POLICY_FAIL if fail_unserved else lead_pb2.UNSERVED_ROLE_POLICY_WAIT
        ),
    )
    flags = ["--sandbox", sandbox, *(["--model", model] if model else [])]
    sys.exit(run_async(_run(request, plan_file, lead, (data_dir or default_folder()).resolve(), flags)))


def _read_plan(path: Path) -> PlanFile:
    try:
        return read_plan(path.read_text(), str(path))
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}", BAD_USAGE) from None
    except UnicodeDecodeError:
        raise CommandFailed(f"{path}: not UTF-8 text", BAD_USAGE) from None
    except PlanFileError as error:
        raise CommandFailed(str(error), BAD_USAGE) from None


async def _run(
    request: lead_pb2.CreateRunRequest, plan: PlanFile, lead: str | None, folder: Path, flags: list[str]
) -> int:
    async with _fleet(lead, folder, flags) as (address, own), Client(address) as client:
        try:
            created = await client.create_run(
                request.plan,
                request.repository,
                project=request.project,
                base=request.base,
                limits=request.limits,
                unserved_role=request.unserved_role,
            )
        except CodeframeError as error:
            raise CommandFailed(_refused(error, plan), BAD_USAGE) from None
        followed, final = await _follow(client, created)
        if followed is Followed.DETACHED:
            if own is not None:
                own.leave()
                console.print("the fleet runs on; `codeframe down` stops it")
            return CANCELLED
        if followed is Followed.CANCELLED:
            return CANCELLED
        return 0 if final.state == state_pb2.RUN_STATE_COMPLETED else NOT_COMPLETED


@asynccontextmanager
async def _fleet(lead: str | None, folder: Path, flags: list[str]) -> AsyncIterator[tuple[str, OwnUp | None]]:
    """A lead to ask: the named one, the running one, else one of our own, stopped at the end."""
    found = None if lead else running(folder)
    if lead or found:
        yield lead or (found.lead if found else ""), None
        return
    console.print(f"starting lead, workers and gateway in {folder}", soft_wrap=True)
    async with own_up(folder, flags) as own:
        console.print(f"gateway http://{own.up.gateway}", soft_wrap=True)
        yield own.up.lead, own


def _refused(error: CodeframeError, plan: PlanFile) -> str:
    """What the lead found wrong, with the plan's lines where it speaks of the plan."""
    if not error.violations:
        return error.message
    lines = []
    for each in error.violations:
        in_plan = each.field.startswith("plan.")
        where = plan.where(each.field.removeprefix("plan.")) if in_plan else each.field
        lines.append(f"{where}: {each.message}")
    return "\n".join(lines)


async def _follow(client: Client, run: lead_pb2.Run) -> tuple[Followed, lead_pb2.Run]:
    view = RunView(run)
    with Screen(view, console, f"{run.title}: ") as screen:
        followed = await follow(client, run.run_id, screen, view)
    if followed is Followed.DETACHED:
        return followed, run
    console.print()
    return followed, await report(client, run.run_id, console)


@main.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@data_dir
@lead_address
def watch(run_id: str | None, data_dir: Path | None, lead: str | None) -> None:
    """Follow RUN (default: the newest) to its end. Ctrl-C leaves it running."""
    sys.exit(run_async(_watch(find_lead(lead, data_dir), run_id)))


async def _watch(address: str, run_id: str | None) -> int:
    async with Client(address) as client:
        if run_id is None:
            newest = (await client.list_runs(lead_pb2.ListRunsRequest(page_size=1))).runs
            if not newest:
                raise CommandFailed("there is no run yet")
            run_id = newest[0].run_id
        followed, final = await _follow(client, await client.get_run(run_id))
        if followed is not Followed.ENDED:
            return CANCELLED
        return 0 if final.state == state_pb2.RUN_STATE_COMPLETED else NOT_COMPLETED


@main.command()
@click.option("--project", default="", help="Only this project's.")
@data_dir
@lead_address
def runs(project: str, data_dir: Path | None, lead: str | None) -> None:
    """List runs, newest first."""
    run_async(_runs(find_lead(lead, data_dir), project))


async def _runs(address: str, project: str) -> None:
    table = Table("run", "project", "state", "tasks", "created", "title", box=None)
    async with Client(address) as client:
        async for each in client.runs(project):
            created = each.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")
            tasks = f"{each.counts.completed}/{each.counts.total}"
            table.add_row(each.run_id, each.project, run_state(each.state), tasks, created, each.title)
    console.print(table)


@main.command()
@click.argument("run_id", metavar="RUN")
@click.option("--artifacts", is_flag=True, help="List the artifacts of each attempt too.")
@data_dir
@lead_address
def show(run_id: str, artifacts: bool, data_dir: Path | None, lead: str | None) -> None:
    """Show RUN: its tasks, their evidence, and what it took."""
    run_async(_show(find_lead(lead, data_dir), run_id, artifacts))


async def _show(address: str, run_id: str, artifacts: bool) -> None:
    async with Client(address) as client:
        await report(client, run_id, console, artifacts=artifacts)


@main.command()
@click.argument("run_id", metavar="RUN")
@data_dir
@lead_address
def cancel(run_id: str, data_dir: Path | None, lead: str | None) -> None:
    """Ask RUN to end; what was merged stays on its branch."""
    run_async(_cancel(find_lead(lead, data_dir), run_id))


async def _cancel(address: str, run_id: str) -> None:
    async with Client(address) as client:
        cancelled = await client.cancel_run(run_id, "cancelled at the command line")
        console.print(f"run {run_id}: {run_state(cancelled.state)}")


@main.command()
@data_dir
@lead_address
def workers(data_dir: Path | None, lead: str | None) -> None:
    """List the workers that the lead knows."""
    run_async(_workers(find_lead(lead, data_dir)))


async def _workers(address: str) -> None:
    table = Table("worker", "address", "roles", "state", "slots", "sandbox", "model", "problem", box=None)
    async with Client(address) as client:
        async for each in client.workers():
            state = state_pb2.AgentState.Name(each.state).removeprefix("AGENT_STATE_").lower()
            slots = f"{each.in_flight}/{each.slots}"
            roles = ", ".join(each.roles)
            table.add_row(
                each.name, each.address, roles, state, slots, each.sandbox_mode, each.model, each.problem
            )
    console.print(table)


if __name__ == "__main__":
    main()
