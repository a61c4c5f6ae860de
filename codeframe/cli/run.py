"""`run`: a plan on a repository, followed to its end."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click
import grpc

from codeframe.amounts import KINDS, budget_of, write_amounts
from codeframe.budget import Budget
from codeframe.cli.command import PATH, console, data_dir, lead_address, run_async
from codeframe.cli.failure import BAD_USAGE, NOT_COMPLETED, CommandFailed
from codeframe.cli.fleet import model, own_roles, sandbox
from codeframe.cli.folder import Up, held, running
from codeframe.cli.follow import Followed
from codeframe.cli.key import custom_endpoint
from codeframe.cli.look import follow_and_report
from codeframe.cli.own_up import START_SECONDS, OwnUp, own_up
from codeframe.cli.plan_only import write_plan
from codeframe.cli.process_end import process_ended
from codeframe.cli.repository import repository_at, why_unfit
from codeframe.cli.view import UNCONFINED
from codeframe.cli.while_up import Stopped, ending_of, while_up
from codeframe.client import Client, CodeframeError
from codeframe.durations import parse_duration
from codeframe.planfile import PlanFile, PlanFileError, read_plan
from codeframe.v1 import lead_pb2

_TIMEOUTS = (timedelta(milliseconds=100), timedelta(days=30))


def _duration(context: click.Context, parameter: click.Parameter, given: str | None) -> timedelta | None:
    duration = parse_duration(given) if given is not None else None
    if given is not None and (duration is None or not _TIMEOUTS[0] <= duration <= _TIMEOUTS[1]):
        raise click.BadParameter(
            f'{given!r} is not a duration such as "90s", "30m" or "2h", of 30 days at most'
        )
    return duration


def _budget(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> Budget:
    written: dict[str, str] = {}
    for each in given:
        kind, equals, amount = each.partition("=")
        if kind not in KINDS or not equals:
            raise click.BadParameter(f"{each!r} is not KIND=AMOUNT, with a KIND of {', '.join(KINDS)}")
        if kind in written:
            raise click.BadParameter(f"{kind} is given twice")
        written[kind] = amount
    try:
        return budget_of(written)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is to be run, and where. `plan` is None where the request has a goal."""

    plan: PlanFile | None
    request: lead_pb2.CreateRunRequest
    folder: Path
    lead: str | None
    sandbox: str | None
    model: str | None
    own_roles: tuple[Path, ...]
    plan_only: Path | None


@click.command()
@click.argument("plan", type=PATH, required=False)
@click.option(
    "--goal", metavar="TEXT", help="What is to be reached, instead of PLAN: a plan is made of it first."
)
@click.option(
    "--plan-only",
    type=PATH,
    metavar="FILE",
    help="With --goal: write the plan that is made to a new FILE, and do nothing of it.",
)
@click.option("--repo", required=True, metavar="DIR", help="Path or URL of the git repository.")
@click.option(
    "--base", default="", metavar="REF", help="Branch, tag or commit to start from.  [default: HEAD]"
)
@click.option("--project", default="", help="Name to file the run under.  [default: the repository's]")
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), help="Tasks done at the same time.  [default: 5]"
)
@click.option("--retries", type=click.IntRange(0, 100), help="Retries of a task.  [default: 3]")
@click.option("--timeout", callback=_duration, help='The whole run\'s time, such as "2h".  [default: 72h]')
@click.option(
    "--budget",
    multiple=True,
    metavar="KIND=AMOUNT",
    callback=_budget,
    help="What it may spend of tokens, dollars, turns or time, such as dollars=2.50; repeat it.",
)
@click.option("--fail-unserved", is_flag=True, help="Fail, rather than wait, where no worker serves a role.")
@data_dir
@lead_address
@sandbox
@model
@own_roles
def run(
    plan: Path | None,
    goal: str | None,
    plan_only: Path | None,
    repo: str,
    base: str,
    project: str,
    concurrency: int | None,
    retries: int | None,
    timeout: timedelta | None,
    budget: Budget,
    fail_unserved: bool,
    folder: Path,
    lead: str | None,
    sandbox: str | None,
    model: str | None,
    own_roles: tuple[Path, ...],
) -> None:
    """Run PLAN, or a plan made of a goal, on a repository, and follow it to its end.

    Uses a running lead, else starts lead, workers and gateway and stops them at the end. Exits 0
    where every task completed, 1 where not, 2 for bad usage or a bad plan, 130 after Ctrl-C: the
    first detaches after 5 s, a second before that cancels the run.
    """
    if (plan is None) == (goal is None):
        raise click.UsageError("give a PLAN, or say what is to be reached with --goal TEXT")
    if goal is not None and not goal.strip():
        raise click.BadParameter("is blank; say what is to be reached", param_hint="--goal")
    if plan_only is not None and goal is None:
        raise click.UsageError("--plan-only goes with --goal")
    if plan_only is not None and plan_only.exists():
        raise CommandFailed(f"--plan-only {plan_only}: is there already; name a new file", BAD_USAGE)
    plan_file = _read_plan(plan) if plan else None
    limits = lead_pb2.RunLimits(concurrency=concurrency, retries=retries)
    if timeout is not None:
        limits.run_timeout.FromTimedelta(timeout)
    wait, fail = lead_pb2.UNSERVED_ROLE_POLICY_WAIT, lead_pb2.UNSERVED_ROLE_POLICY_FAIL
    request = lead_pb2.CreateRunRequest(
        repository=_repository(repo),
        base=base,
        project=project,
        limits=limits,
        unserved_role=fail if fail_unserved else wait,
    )
    if budget.limited:
        write_amounts(request.budget, budget)
    if plan_file:
        request.plan.CopyFrom(plan_file.plan)
    else:
        request.goal = goal or ""
    _warn(request.repository)
    sys.exit(run_async(_run(_Wish(plan_file, request, folder, lead, sandbox, model, own_roles, plan_only))))


def _read_plan(path: Path) -> PlanFile:
    try:
        return read_plan(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}", BAD_USAGE) from None
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path}: not UTF-8 text: byte {error.start}", BAD_USAGE) from None
    except PlanFileError as error:
        raise CommandFailed(str(error), BAD_USAGE) from None


def _repository(given: str) -> str:
    """A path as the lead finds it, wherever it runs on this machine; a URL as it is."""
    path = Path(given).resolve()
    if path.exists():
        if unfit := why_unfit(path):
            raise CommandFailed(f"--repo {'; '.join(unfit)}", BAD_USAGE)
        return str(path)
    if "://" in given or ":" in given.partition("/")[0]:
        return given
    raise CommandFailed(f"--repo {given}: no such folder", BAD_USAGE)


def _warn(repository: str) -> None:
    """Say what of a working tree the run will not see."""
    if not Path(repository).is_dir():
        return
    for warning in repository_at(Path(repository)).warnings():
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True, markup=False)


async def _run(wish: _Wish) -> int:
    async with _servers(wish) as servers, Client(servers.lead) as client:
        created = await _created(client, wish)
        console.print(f"run {created.run_id} in project {created.project}", soft_wrap=True, markup=False)
        if wish.plan_only:
            return await while_up(write_plan(client, created, wish.plan_only), servers.stopped)
        followed, code = await while_up(follow_and_report(client, created, own=True), servers.stopped)
        if servers.own and followed is Followed.DETACHED:
            servers.own.stay()
            console.print("lead, workers and gateway run on; `codeframe down` stops them")
        return code


@dataclass(frozen=True, slots=True)
class _Servers:
    """Whom we ask. `own` is None where others started them, `stopped` where we hear of no end."""

    lead: str
    stopped: Stopped | None
    own: OwnUp | None = None


@asynccontextmanager
async def _servers(wish: _Wish) -> AsyncIterator[_Servers]:
    """A lead to ask: the named one, the running one, else one of our own, stopped at the end."""
    given = [(flag, value) for flag, value in (("--sandbox", wish.sandbox), ("--model", wish.model)) if value]
    given += [("--role", str(folder)) for folder in wish.own_roles]
    found = None if wish.lead else await find_fleet(wish.folder)
    if lead := wish.lead or (found.lead if found else ""):
        for flag, _ in given:
            raise CommandFailed(f"{flag} is for workers that are started; these run already", BAD_USAGE)
        yield _Servers(lead, ending_of(found))
        return
    console.print(f"starting lead, workers and gateway in {wish.folder}", soft_wrap=True, markup=False)
    flags = [word for pair in given for word in pair]
    async with own_up(wish.folder, flags) as (own, up):
        console.print(f"gateway http://{up.gateway}", soft_wrap=True, markup=False)
        if (wish.sandbox or os.environ.get("CODEFRAME_SANDBOX")) == "none":
            console.print(UNCONFINED, style="bold yellow")
        if endpoint := custom_endpoint(os.environ):
            console.print(f"the model is asked at {endpoint}, not at Anthropic", soft_wrap=True, markup=False)
        yield _Servers(up.lead, own.broken, own)


async def find_fleet(folder: Path) -> Up | None:
    """The `up` that runs in a folder. One that starts is waited for, and of one that stops the end."""
    while True:
        while (up := running(folder)) and up.stopping:
            told = f"the fleet in {folder} is stopping (process {up.pid}); waiting for its end"
            console.print(told, soft_wrap=True, markup=False)
            await process_ended(up.pid)
        if up or not held(folder):
            return up
        console.print(f"a fleet in {folder} is starting; waiting for it", soft_wrap=True, markup=False)
        try:
            async with asyncio.timeout(START_SECONDS):
                while running(folder) is None:
                    if not held(folder):
                        return None
                    await asyncio.sleep(0.05)  # another process holds it: nothing here is told
        except TimeoutError:
            what = f"the fleet in {folder} did not start in {START_SECONDS:g} s"
            raise CommandFailed(f"{what}; end it, or choose another --data-dir") from None


async def _created(client: Client, wish: _Wish) -> lead_pb2.Run:
    request = wish.request
    try:
        return await client.create_run(
            request.goal or request.plan,
            request.repository,
            project=request.project,
            base=request.base,
            limits=request.limits,
            budget=request.budget if request.HasField("budget") else None,
            unserved_role=request.unserved_role,
        )
    except CodeframeError as error:
        code = BAD_USAGE if error.code is grpc.StatusCode.INVALID_ARGUMENT else NOT_COMPLETED
        raise CommandFailed(_refused(error, wish.plan), code) from None


def _refused(error: CodeframeError, plan: PlanFile | None) -> str:
    """What the lead found wrong, with the plan's lines where it speaks of the plan."""
    lines = []
    for each in error.violations:
        part = each.field.removeprefix("plan.")
        where = part
        if plan and part.startswith(("tasks", "title")):
            where = f"{plan.where(part)}: {part}"
        lines.append(f"{where}: {each.message}" if where else each.message)
    return "\n".join(lines) or error.message
