"""The lock on a folder that one process writes to, and the children that it has write there."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

_LOOK_EVERY = 0.05
ENDINGS = ((0, 5.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 10.0))
"""What children of a dead process are sent, at first nothing, and for how many seconds it is then waited."""


class FolderHeld(Exception):
    """Another process has the folder. `pid` is its number, as far as it is known."""

    def __init__(self, pid: str) -> None:
        super().__init__(f"process {pid}" if pid else "another process")
        self.pid = pid


class FolderLock:
    """The lock on a folder, which the kernel frees once nobody has its file open, however they ended.

    A child that writes to the folder inherits `descriptor` (see `Git.holding`), and so holds the lock too:
    where its parent is killed, who starts next does not clear up what that child still writes.
    """

    def __init__(self, path: Path, endings: Sequence[tuple[int, float]] = ENDINGS) -> None:
        self.descriptor = -1
        self._path = path
        self._endings = endings

    async def take(self) -> None:
        """Take the lock. What a dead process left running is waited for, and after a while ended.

        Raises FolderHeld where a living process has it, OSError where its file cannot be made.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _locked(descriptor):
                await self._outlast(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor

    def close(self) -> None:
        """Let go of it; a child that still holds it keeps others out."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    async def _outlast(self, descriptor: int) -> None:
        """Lock once the children of a dead process have ended. Raises FolderHeld."""
        clock, told = asyncio.get_running_loop().time, False
        for number, seconds in self._endings:
            until = clock() + seconds
            while clock() < until:
                orphans = self._orphans(descriptor)
                if _locked(descriptor):
                    return
                if not orphans:  # none that we may see: they are another user's
                    raise FolderHeld(_owner(descriptor))
                if not told:
                    told = True
                    log.warning("a killed process left others running; waiting for their end", pids=orphans)
                for pid in orphans:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                await asyncio.sleep(_LOOK_EVERY)
        raise FolderHeld(_owner(descriptor))

    def _orphans(self, descriptor: int) -> list[int]:
        """Who holds the lock, now that the process that took it is dead. Raises FolderHeld where it lives."""
        holders, owner = _holders(descriptor), _owner(descriptor)
        if not owner or owner in map(str, holders):  # it may have locked it, and not said who it is yet
            raise FolderHeld(owner)
        return holders


def _owner(descriptor: int) -> str:
    """The number of the process that took the lock last."""
    return os.pread(descriptor, 20, 0).decode(errors="replace").strip()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(descriptor: int) -> list[int]:
    """The processes that hold the lock on an open file, as far as we may look at them.

    Not all that have the file open: the kernel shows a lock with the very descriptors that hold it
    (proc_pid_fdinfo(5)).
    """
    file = os.fstat(descriptor)
    return [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if any(_holds(process, each, file) for each in _descriptors(process))
    ]


def _descriptors(process: Path) -> list[str]:
    try:
        return os.listdir(process / "fd")
    except OSError:  # it has ended, or is another user's
        return []


def _holds(process: Path, descriptor: str, file: os.stat_result) -> bool:
    try:
        is_it = os.path.samestat(os.stat(process / "fd" / descriptor), file)
        return is_it and "\nlock:" in (process / "fdinfo" / descriptor).read_text()
    except OSError:  # closed meanwhile
        return False
