"""Watching files by inotify, which Landlock does not watch: it would tell what others name their files, and
when they write. The launcher begins each watch in the command's place, and only of what that may read."""

import ctypes
import errno
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from sandlock.handler import NotifAction

from services.workers.launcher.caller import AT_FDCWD, Answer, Caller

ADD_WATCH = {"x86_64": 254, "aarch64": 27}
PIDFD_GETFD = 438
PIDFD_THREAD = os.O_EXCL
IN_DONT_FOLLOW = 0x02000000

libc = ctypes.CDLL(None, use_errno=True)


class Watches:
    """Begins them for a command that may read `readable`."""

    def __init__(self, readable: Sequence[str]) -> None:
        self.readable = [PurePath(os.path.realpath(place)) for place in readable]

    def handlers(self) -> Iterator[tuple[int, Answer]]:
        """What to do at which system call."""
        yield ADD_WATCH[platform.machine()], Answer(self.add)

    def add(self, caller: Caller) -> NotifAction:
        mask = caller.number(2)
        place = caller.open(AT_FDCWD, caller.path(1), not mask & IN_DONT_FOLLOW)
        try:
            named = f"/proc/self/fd/{place}"
            if not any(map(PurePath(os.readlink(named)).is_relative_to, self.readable)):
                raise OSError(errno.EACCES, "it is not to be read")
            return NotifAction.returns(self._add(caller, named, mask & ~IN_DONT_FOLLOW))
        finally:
            os.close(place)

    def _add(self, caller: Caller, place: str, mask: int) -> int:
        """The number of a new watch among those of the caller's descriptor, which is borrowed."""
        process = os.pidfd_open(caller.call.pid, PIDFD_THREAD)
        try:
            watches = libc.syscall(PIDFD_GETFD, process, caller.number(0), 0)
            problem = ctypes.get_errno()
        finally:
            os.close(process)
        if watches < 0:
            raise OSError(problem, os.strerror(problem))
        watch: int = libc.inotify_add_watch(watches, place.encode(), ctypes.c_uint32(mask & 0xFFFFFFFF))
        problem = ctypes.get_errno()
        os.close(watches)
        if watch < 0:
            raise OSError(problem, os.strerror(problem))
        return watch
