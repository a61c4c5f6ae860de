"""Commands that want to outlive their time, or to use up processes, memory or the worker's attention.

No process outlives its command: no daemon, no forker, not after a timeout, a cancel or the worker's death. A
process is known by a word in its command line that no other process has.
"""

import asyncio
import contextlib
import os
import resource
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest

from services.workers.sandbox import Command, CommandResult, Limits, Mode, Sandbox
from tests.attack.conftest import Try
from tests.attack.tally import Kind
from tests.eventually import eventually
from tests.fifo import opened
from tests.sandboxes import each_mode

ROOT = Path(__file__).parents[2]
PYTHON = Path(sys.base_prefix)
INTERPRETER = str(PYTHON / "bin" / f"python3.{sys.version_info.minor}")
MIB = 1024 * 1024

Run = Callable[..., Coroutine[None, None, CommandResult]]

# Its parent stays until it is up: with the command's end it would be killed before it said so.
DAEMON = """
import os, time
up, says = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        open("ready", "w").close()
        os.write(says, b"up")
        time.sleep(600)
    os._exit(0)
os.wait()
os.read(up, 2)
"""

RUNNER = """
import os, time
if os.fork():
    time.sleep(600)
open("ready", "w").close()
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""

LOUD = """
import sys, time
sys.stdout.write("x" * 3_000_000)
sys.stdout.flush()
open("ready", "w").close()
time.sleep(600)
"""

STUBBORN = """
import signal, time
for number in range(1, 32):
    if number not in (9, 19): signal.signal(number, signal.SIG_IGN)
open("ready", "w").close()
time.sleep(600)
"""

WRITER = """
import os
block = b"x" * (1 << 20)
for _ in range(1024):
    left = len(block)
    while left:
        left -= os.write(1, block[:left])
"""


@pytest.fixture(params=each_mode(*Mode))
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sandbox]:
    box = await Sandbox.open(request.param, scratch=tmp_path / "scratch")
    yield box
    assert list(box.scratch.iterdir()) == [], "a private /tmp was left behind"


@pytest.fixture
def _attack(sandbox: Sandbox, attack: Try) -> None:
    """The test is an attack, which has worked where it fails; without a sandbox it tries the subreaper."""
    if sandbox.mode is not Mode.NONE:
        attack(Kind.SANDBOX, sandbox.mode.value)


is_attack = pytest.mark.usefixtures("_attack")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "ready")
    return tree


@pytest.fixture
def word() -> str:
    return f"word-{uuid.uuid4().hex}"


@pytest.fixture
def run(sandbox: Sandbox, tree: Path, word: str) -> Run:
    async def run(code: str, **more: object) -> CommandResult:
        argv = (INTERPRETER, "-I", "-c", code, word)
        return await sandbox.run(
            Command(argv=argv, cwd=tree, writable=(tree,), readable=(PYTHON,), **more)  # type: ignore[arg-type]
        )

    return run


def bearers(word: str) -> list[int]:
    """Pids of the processes that bear `word`."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if word.encode() in Path("/proc", name, "cmdline").read_bytes():
                found.append(int(name))
    return found


async def gone(word: str) -> None:
    """Return once no process bears `word`; only for deaths that nobody awaits."""
    await eventually(lambda: not bearers(word))  # not our children, so there is nothing to await


@is_attack
async def test_a_daemon_dies_with_its_command(run: Run, tree: Path, word: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(opened(tree / "ready"))
        task = group.create_task(run(DAEMON))
    assert task.result().exit_code == 0, task.result().output
    assert bearers(word) == []


@is_attack
@pytest.mark.parametrize(
    "code", [DAEMON + "time.sleep(600)", RUNNER, STUBBORN], ids=["daemon", "runner", "stubborn"]
)
async def test_a_timeout_kills_everything(run: Run, tree: Path, word: str, code: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(opened(tree / "ready"))
        task = group.create_task(run(code, timeout=3))
    result = task.result()
    assert result.timed_out
    assert result.exit_code == 137
    assert result.duration >= 3
    assert bearers(word) == []


ENDLESS = {"daemon": DAEMON + "time.sleep(600)", "runner": RUNNER, "stubborn": STUBBORN, "loud": LOUD}


@is_attack
@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_cancelled_run_returns_when_everything_is_dead(
    run: Run, tree: Path, word: str, kind: str
) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(ENDLESS[kind]))
        await opened(tree / "ready")
        assert bearers(word)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # an impatient caller changes nothing
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bearers(word) == []


async def test_cancelling_at_any_moment_leaves_nothing(run: Run, word: str) -> None:
    for step in range(12):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run("import time; time.sleep(600)"), step * 0.012)
        assert bearers(word) == []


async def test_cancelling_while_the_answer_comes_leaves_nothing(run: Run, word: str) -> None:
    for step in range(12):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run("import sys; sys.stdout.write('x' * 2_000_000)"), 0.03 + step * 0.01)
        assert bearers(word) == []


@is_attack
async def test_a_fork_bomb_is_bounded(run: Run, word: str) -> None:
    code = "import os, time\ntime.sleep(0.2)\nwhile True:\n try: os.fork()\n except OSError: time.sleep(0.01)"
    result = await run(code, timeout=4, limits=Limits(processes=60))
    assert result.timed_out or result.exceeded == "processes"
    assert bearers(word) == []


@is_attack
async def test_the_memory_of_one_process_is_bounded(run: Run) -> None:
    result = await run("kept = bytearray(600 * 1024 * 1024)", limits=Limits(memory=300 * MIB))
    assert result.exit_code == 1
    assert "MemoryError" in result.output


@is_attack
async def test_the_memory_of_all_processes_together_is_bounded(run: Run, word: str) -> None:
    code = (
        "import os, time\n"
        "for _ in range(3): os.fork()\n"
        "kept = bytearray(os.urandom(1024 * 1024)) * 100\n"
        "time.sleep(600)"
    )
    result = await run(code, timeout=60, limits=Limits(memory=300 * MIB))
    assert result.exceeded == "memory"
    assert result.exit_code == 137
    assert bearers(word) == []


@is_attack
async def test_a_file_is_bounded(run: Run, tree: Path) -> None:
    code = "f = open('big', 'wb')\nfor _ in range(64): f.write(bytes(1024 * 1024))"
    result = await run(code, limits=Limits(file_size=8 * MIB))
    assert result.exit_code != 0
    assert (tree / "big").stat().st_size <= 8 * MIB


@is_attack
async def test_a_gigabyte_of_output_is_bounded_and_the_loop_stays_free(run: Run) -> None:
    longest = 0.0
    over = asyncio.Event()

    async def beat() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while not over.is_set():
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with asyncio.TaskGroup() as group:
        group.create_task(beat())
        result = await run(WRITER, timeout=120)
        over.set()
    assert result.exit_code == 0
    assert len(result.output) < 2 * MIB
    assert result.dropped == 1024 * MIB - MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "in KiB"
    assert longest < 1.0


@is_attack
async def test_a_killed_worker_leaves_no_process(
    sandbox: Sandbox, tree: Path, word: str, tmp_path: Path
) -> None:
    worker = f"""
import asyncio
from pathlib import Path
from services.workers.sandbox import Command, Sandbox
async def main():
    box = await Sandbox.open({str(sandbox.mode)!r}, scratch=Path({str(tmp_path / "other")!r}))
    tree = Path({str(tree)!r})
    argv = ({INTERPRETER!r}, "-I", "-c", {DAEMON + "time.sleep(600)"!r}, {word!r})
    await box.run(Command(argv=argv, cwd=tree, writable=(tree,), readable=(Path({str(PYTHON)!r}),)))
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", worker, cwd=ROOT)
    await opened(tree / "ready")
    assert bearers(word)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await gone(word)


async def test_what_a_dead_worker_left_in_scratch_is_removed(tmp_path: Path) -> None:
    (tmp_path / "scratch" / "old" / "home").mkdir(parents=True)
    box = await Sandbox.open("auto", scratch=tmp_path / "scratch")
    assert list(box.scratch.iterdir()) == []
