"""Modes, times and owners of files, which Landlock does not watch.

A command may change those of the files that it may write. Each call is made by the launcher in its place,
with the same rights, on what the path led to once: so there is nothing to race with.
"""

import ctypes
import errno
import os
import platform
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from services.workers.launcher.caller import AT_FDCWD, Answer, Caller

AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
FCHMODAT2 = 452
NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452,
        "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
        "utime": 132, "utimes": 235, "futimesat": 261, "utimensat": 280,
    },
    "aarch64": {
        "fchmod": 52, "fchmodat": 53, "fchmodat2": 452, "fchown": 55, "fchownat": 54, "utimensat": 88,
    },
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)


class Attributes:
    """Changes them for a command that may write `writable`, but for `guarded`."""

    def __init__(self, writable: Sequence[str], guarded: Sequence[str]) -> None:
        self.writable = [PurePath(os.path.realpath(place)) for place in writable]
        self.guarded = [PurePath(os.path.realpath(place)) for place in guarded]

    def handlers(self) -> Iterator[tuple[int, Answer]]:
        """What to do at which system call."""
        for name, number in NUMBERS[platform.machine()].items():
            yield number, Answer(getattr(self, name))

    def chmod(self, caller: Caller) -> None:
        self._mode(self._at(caller, AT_FDCWD, 0), caller.number(1))

    def fchmod(self, caller: Caller) -> None:
        self._mode(self._of(caller, 0), caller.number(1))

    def fchmodat(self, caller: Caller) -> None:
        self._mode(self._at(caller, caller.number(0), 1), caller.number(2))

    def fchmodat2(self, caller: Caller) -> None:
        self._mode(self._at(caller, caller.number(0), 1, caller.number(3)), caller.number(2))

    def chown(self, caller: Caller) -> None:
        self._owner(self._at(caller, AT_FDCWD, 0), caller.number(1), caller.number(2))

    def lchown(self, caller: Caller) -> None:
        file = self._at(caller, AT_FDCWD, 0, AT_SYMLINK_NOFOLLOW)
        self._owner(file, caller.number(1), caller.number(2))

    def fchown(self, caller: Caller) -> None:
        self._owner(self._of(caller, 0), caller.number(1), caller.number(2))

    def fchownat(self, caller: Caller) -> None:
        file = self._at(caller, caller.number(0), 1, caller.number(4))
        self._owner(file, caller.number(2), caller.number(3))

    def utime(self, caller: Caller) -> None:
        times = None
        if caller.call.args[1]:
            accessed, modified = struct.unpack("@ll", caller.memory(1, 16))
            times = struct.pack("@llll", accessed, 0, modified, 0)
        self._times(self._at(caller, AT_FDCWD, 0), times)

    def utimes(self, caller: Caller) -> None:
        times = self._micro(caller, 1)
        self._times(self._at(caller, AT_FDCWD, 0), times)

    def futimesat(self, caller: Caller) -> None:
        times = self._micro(caller, 2)
        self._times(self._there(caller, 0), times)

    def utimensat(self, caller: Caller) -> None:
        times = caller.memory(2, 32) if caller.call.args[2] else None
        self._times(self._there(caller, caller.number(3)), times)

    def _micro(self, caller: Caller, argument: int) -> bytes | None:
        """Times in microseconds, as the kernel's newer calls take them."""
        if not caller.call.args[argument]:
            return None
        accessed, a, modified, m = struct.unpack("@llll", caller.memory(argument, 32))
        if not (0 <= a < 1_000_000 and 0 <= m < 1_000_000):
            raise OSError(errno.EINVAL, "no such time")
        return struct.pack("@llll", accessed, a * 1000, modified, m * 1000)

    def _there(self, caller: Caller, flags: int) -> int:
        """What a folder and a path lead to; without a path, what the descriptor stands for."""
        return self._at(caller, caller.number(0), 1, flags) if caller.call.args[1] else self._of(caller, 0)

    def _of(self, caller: Caller, argument: int) -> int:
        """What the caller has open. A pipe is its own, and so is a file that has no name any more."""
        file = caller.file(caller.number(argument))
        found = os.fstat(file)
        nowhere = not os.readlink(f"/proc/self/fd/{file}").startswith("/")
        pipe = nowhere and (stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode))
        if found.st_nlink and not pipe:
            self._judge(file)
        return file

    def _at(self, caller: Caller, folder: int, argument: int, flags: int = 0) -> int:
        """A file by its path."""
        if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
            raise OSError(errno.EINVAL, "no such flag")
        path = caller.path(argument)
        if not path and flags & AT_EMPTY_PATH:
            if folder != AT_FDCWD:
                return self._of(caller, 0)
            path = b"."
        file = caller.open(folder, path, not flags & AT_SYMLINK_NOFOLLOW)
        self._judge(file)
        return file

    def _judge(self, file: int) -> None:
        """Close a file, and raise, where it is not the command's to change."""
        place = PurePath(os.readlink(f"/proc/self/fd/{file}"))
        if not any(map(place.is_relative_to, self.writable)) or any(map(place.is_relative_to, self.guarded)):
            os.close(file)
            raise OSError(errno.EPERM, "it is not to be written")

    def _mode(self, file: int, mode: int) -> None:
        _done(file, libc.syscall(FCHMODAT2, file, b"", mode, AT_EMPTY_PATH))

    def _owner(self, file: int, user: int, group: int) -> None:
        _done(file, libc.fchownat(file, b"", user, group, AT_EMPTY_PATH))

    def _times(self, file: int, times: bytes | None) -> None:
        _done(file, libc.utimensat(file, b"", times, AT_EMPTY_PATH))


def _done(file: int, answer: int) -> None:
    problem = ctypes.get_errno()
    os.close(file)
    if answer < 0:
        raise OSError(problem, os.strerror(problem))
