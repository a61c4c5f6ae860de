"""`python -m demo`, or `make demo`: a plan or a goal on a sample repository, without a key."""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from demo.claude.bill import Bill
from demo.failure import DemoFailed
from demo.processes import Stage, run, scripted_claude, servers, stage_in
from demo.repository import git, make_repository

KEY = "scripted-key"
PLAN, GOAL = Path(__file__).parent / "plan.yaml", Path(__file__).parent / "goal.txt"
OPENING = """\
The Claude of this demo is scripted: demo/claude serves the real Messages API, and says what demo/scripts
tell it. Everything else is what runs with a key: the servers, the sandbox, the tests, git, the merge queue.
"""


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description="Runs the demo. It needs no key.")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="a new folder to play in, which stays whole",
    )
    parser.add_argument("--sandbox", default="auto", help="as for codeframe up (default: %(default)s)")
    parser.add_argument(
        "--pace", type=float, default=1.0, metavar="FACTOR", help="multiply the waits of the scripted Claude"
    )
    parser.add_argument(
        "--goal", action="store_true", help="start with a goal, of which a plan is made, and not with a plan"
    )
    return parser.parse_args(given)


def _say(line: str) -> None:
    print(line, flush=True)


async def perform(stage: Stage, options: argparse.Namespace) -> bool:
    """Play the demo; whether everything completed. Raises DemoFailed."""
    _say(OPENING)
    repository = await make_repository(stage.folder / "repository")
    work = ["--goal", GOAL.read_text(encoding="utf-8")] if options.goal else [str(PLAN)]
    pace = ["--pace", str(options.pace)]
    async with scripted_claude(stage, ["--api-key", KEY, *pace], _say) as claude:
        provider = {"ANTHROPIC_BASE_URL": claude.url, "ANTHROPIC_API_KEY": KEY}
        async with servers(stage, provider, ["--sandbox", options.sandbox]) as (process, up):
            _say(f"scripted Claude {claude.url}, lead {up.lead}, gateway http://{up.gateway}")
            pids = {"claude": claude.pid} | up.pids
            _say(f"processes: {', '.join(f'{name} {pid}' for name, pid in pids.items())}")
            _say("Kill any of them (kill -9): it comes back, and the run goes on.\n")
            code = await run(stage, work, repository, process)
    await _tell_commits(repository)
    _tell_bill(stage.claude)
    return code == 0


async def _tell_commits(repository: Path) -> None:
    heads = await git(repository, "for-each-ref", "--format=%(refname:short)", "refs/heads/codeframe/*/head")
    for head in heads.split():
        _say(f"\ncommits on {head}")
        _say(await git(repository, "log", "--reverse", "--no-merges", "--format=  %h %s", f"main..{head}"))
        _say(await git(repository, "diff", "--shortstat", f"main..{head}"))


def _tell_bill(folder: Path) -> None:
    with closing(Bill(folder, lambda: datetime.now(UTC))) as bill:
        summary = bill.summary()
    _say(
        f"\nthe scripted Claude's bill: {summary.finished} turns finished, {len(summary.paid_twice)} of them "
        f"twice; tokens: {summary.totals['input_tokens']:,} in, "
        f"{summary.totals['cache_read_input_tokens']:,} from cache, "
        f"{summary.totals['cache_creation_input_tokens']:,} to cache, "
        f"{summary.totals['output_tokens']:,} out"
    )


async def _interruptibly(stage: Stage, options: argparse.Namespace) -> bool:
    """Play the demo; SIGTERM ends it as Ctrl-C does: everything stops, then we do."""
    playing = asyncio.current_task()
    assert playing is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    try:
        return await perform(stage, options)
    except* DemoFailed as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise DemoFailed(str(first)) from None


def main(given: Sequence[str]) -> int:
    """Play the demo. Returns the exit code: 0 where everything completed, 1 where not, 130 interrupted."""
    options = _arguments(given)
    try:
        if options.keep:
            options.keep.mkdir(parents=True)
        folder = Path(options.keep or tempfile.mkdtemp(prefix="codeframe-demo-")).resolve()
    except OSError as error:
        print(f"demo: {error}; --keep takes a folder that is not there yet", file=sys.stderr)
        return 2
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    stage = stage_in(folder)
    try:
        completed = asyncio.run(_interruptibly(stage, options))
    except DemoFailed as failed:
        print(f"\ndemo: {failed}\nLogs are in {folder}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print(f"\nInterrupted; everything was stopped. Logs are in {folder}", file=sys.stderr)
        return 130
    if not completed:
        print(f"\nNOT COMPLETED. Logs are in {folder}", file=sys.stderr)
        return 1
    if not options.keep:
        _leave_repository(stage)
    _say(
        f"\nCOMPLETED: every task is done, verified and merged. The model was scripted. It stays in {folder}"
    )
    return 0


def _leave_repository(stage: Stage) -> None:
    """Remove all but the repository, which is what there is to look at."""
    for folder in (stage.servers, stage.claude):
        shutil.rmtree(folder)
    for log in stage.folder.glob("*.log"):
        log.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
