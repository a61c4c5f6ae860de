"""Commands that would use up what the machine shares: its disk, its memory, its file descriptors.

Each is bounded twice: by the limits under test, and by a count of its own, so that it is safe where these
fail. Whether one did harm is judged from outside: by what ended it.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.workers.sandbox import Command, Limits, Mode, Sandbox
from tests.attack.conftest import Try
from tests.attack.tally import Kind
from tests.fifo import opened
from tests.sandboxes import each_mode

PYTHON = Path(sys.base_prefix)
INTERPRETER = str(PYTHON / "bin" / f"python3.{sys.version_info.minor}")
MIB = 1024 * 1024
TIMEOUT = 30.0
LIMITS = Limits(disk=32 * MIB, file_size=8 * MIB, memory=300 * MIB, scratch=32 * MIB)

# Each writes 96 MiB at the most, then waits to be ended.
MANY_FILES = """
import time
for n in range(96): open(f"f{n}", "wb").write(bytes(1 << 20))
time.sleep(600)
"""
DEEP_FILES = """
import os, time
for n in range(96):
    open("f", "wb").write(bytes(1 << 20))
    for _ in range(20):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
time.sleep(600)
"""
NAMELESS_FILES = """
import os, time
kept = []
for n in range(96):
    kept.append(open("f", "wb", buffering=0))
    kept[-1].write(bytes(1 << 20))
    os.unlink("f")
time.sleep(600)
"""
MEMORY_FILES = """
import os, time
kept = [os.memfd_create("f") for n in range(48)]
for fd in kept:
    for _ in range(8): os.write(fd, bytes(1 << 20))
time.sleep(600)
"""
SHARED_FILES = """
import time
for n in range(48):
    with open(f"/dev/shm/{n}", "wb") as file:
        for _ in range(8): file.write(bytes(1 << 20))
time.sleep(600)
"""
DESCRIPTORS = """
import os
for n in range(200_000): os.open("/dev/null", os.O_RDONLY)
"""


@pytest.fixture(params=each_mode(Mode.BUBBLEWRAP, Mode.SANDLOCK))
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sandbox]:
    box = await Sandbox.open(request.param, scratch=tmp_path / "scratch")
    yield box
    assert list(box.scratch.iterdir()) == [], "a private /tmp was left behind"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    tree = tmp_path / "tree"
    tree.mkdir()
    yield tree
    subprocess.run(("rm", "-rf", "--", tree), check=True)  # too deep for what pytest removes folders with


def command(tree: Path, code: str) -> Command:
    argv = (INTERPRETER, "-I", "-c", code)
    return Command(argv=argv, cwd=tree, writable=(tree,), readable=(PYTHON,), timeout=TIMEOUT, limits=LIMITS)


@pytest.mark.parametrize(
    ("code", "bound"),
    [
        pytest.param(MANY_FILES, "disk", id="many files"),
        pytest.param(DEEP_FILES, "disk", id="files too deep to be named"),
        pytest.param(NAMELESS_FILES, "disk", id="files without a name"),
        pytest.param(MEMORY_FILES, "memory", id="files in memory"),
    ],
)
async def test_a_flood_ends_at_its_bound(
    sandbox: Sandbox, tree: Path, attack: Try, code: str, bound: str
) -> None:
    tried = attack(Kind.SANDBOX, sandbox.mode.value)
    result = await sandbox.run(command(tree, code))
    if result.exceeded != bound or result.exit_code != 137:
        tried.won()
    assert (result.exceeded, result.exit_code) == (bound, 137), result.output


async def test_shared_memory_is_bounded(sandbox: Sandbox, tree: Path, attack: Try) -> None:
    attack(Kind.SANDBOX, sandbox.mode.value)
    result = await sandbox.run(command(tree, SHARED_FILES))
    if sandbox.mode is Mode.BUBBLEWRAP:
        assert "No space left on device" in result.output
    else:
        assert (result.exceeded, result.exit_code) == ("memory", 137), result.output


async def test_file_descriptors_are_bounded(sandbox: Sandbox, tree: Path, attack: Try) -> None:
    tried = attack(Kind.SANDBOX, sandbox.mode.value)
    result = await sandbox.run(command(tree, DESCRIPTORS))
    if "Too many open files" not in result.output:
        tried.won()
    assert "Too many open files" in result.output


async def test_what_others_write_ends_no_command(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    for name in ("ready", "go"):
        os.mkfifo(tree / name)
    code = """
import time
open("new", "wb").write(bytes(1 << 20))
open("ready", "w").close()
open("go").read(1)
time.sleep(1.2)  # two looks at the disk
print("whole")
"""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sandbox.run(command(tree, code)))
        await opened(tree / "ready", seconds=TIMEOUT)
        (tmp_path / "others").write_bytes(bytes(48 * MIB))
        go = os.open(tree / "go", os.O_RDWR)
        os.write(go, b"x")
    os.close(go)
    assert (task.result().exceeded, task.result().output) == ("", "whole\n")


async def test_a_private_folder_goes_however_deep(sandbox: Sandbox, tree: Path, attack: Try) -> None:
    tried = attack(Kind.SANDBOX, sandbox.mode.value)
    code = "import os; os.chdir(os.environ['TMPDIR'])\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    result = await sandbox.run(command(tree, code))
    if left := list(sandbox.scratch.iterdir()):
        tried.won()
    assert (result.exit_code, left) == (0, []), result.output
