"""The lock on a folder, and who keeps holding it when its process is killed."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from services.runtime.folder_lock import FolderHeld, FolderLock
from tests.eventually import eventually

# Takes the lock, has a child that holds it, too, and tells the child's number.
OWNER = """
import asyncio, pathlib, subprocess, sys, time
from services.runtime.folder_lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]))
asyncio.run(lock.take())
lent, null = [lock.descriptor], subprocess.DEVNULL
child = subprocess.Popen(sys.argv[2:], pass_fds=lent, stdout=null, start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
UNBENDING = ("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
AT_ONCE = ((0, 0.0), (signal.SIGTERM, 0.2), (signal.SIGKILL, 30.0))


async def owner(lock: Path, *child: str) -> tuple[Process, int]:
    """A process that holds a lock, and its child that does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(lock), *child), stdout=PIPE, cwd=Path(__file__).parents[3]
    )
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


async def killed(process: Process) -> None:
    process.kill()
    await process.wait()


async def test_it_is_refused_at_once_while_its_process_lives(tmp_path: Path) -> None:
    process, child = await owner(tmp_path / "lock", "sleep", "600")
    with pytest.raises(FolderHeld, match=f"^process {process.pid}$"):
        await FolderLock(tmp_path / "lock").take()
    await killed(process)
    os.kill(child, signal.SIGKILL)


async def test_it_is_taken_once_the_children_of_a_dead_process_have_ended(tmp_path: Path) -> None:
    process, child = await owner(tmp_path / "lock", "sleep", "600")
    await killed(process)
    patient = FolderLock(tmp_path / "lock", ((0, 600.0),))
    taking = asyncio.create_task(patient.take())
    done, _ = await asyncio.wait([taking], timeout=0.5)
    assert not done
    os.kill(child, signal.SIGKILL)
    await taking
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    patient.close()
    again = FolderLock(tmp_path / "lock")
    await again.take()
    again.close()


async def test_children_that_do_not_end_are_ended_and_nobody_else_is(tmp_path: Path) -> None:
    process, child = await owner(tmp_path / "lock", *UNBENDING)
    await killed(process)
    with (tmp_path / "lock").open() as looked_at:
        looker = await asyncio.create_subprocess_exec("sleep", "600", pass_fds=[looked_at.fileno()])
        lock = FolderLock(tmp_path / "lock", AT_ONCE)
        await lock.take()
        await eventually(lambda: not Path(f"/proc/{child}/fd/0").exists())
        assert looker.returncode is None
        await killed(looker)
    lock.close()


async def test_what_outlasts_every_signal_is_named_by_its_lock(tmp_path: Path) -> None:
    process, child = await owner(tmp_path / "lock", "sleep", "600")
    await killed(process)
    with pytest.raises(FolderHeld, match=f"^process {process.pid}$"):
        await FolderLock(tmp_path / "lock", ((0, 0.1),)).take()
    os.kill(child, signal.SIGKILL)


async def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError):
        await FolderLock(Path("/dev/null/lock")).take()
