"""A /dev/shm of a command's own, for POSIX semaphores and shared memory: that of the machine is everybody's.

What is opened below /dev/shm is a file in the launcher's memory, known by its name there. It ends with the
launcher, and counts as memory of the command. There are no folders, and no list of the names.
"""

import errno
import os
import platform
import struct
from collections.abc import Iterator

from sandlock.handler import NotifAction

from services.workers.launcher.caller import Answer, Caller

PLACE = b"/dev/shm/"
MOST = 4096
KEPT_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_APPEND | os.O_NONBLOCK | os.O_PATH
NUMBERS = {
    "x86_64": {
        "open": 2,
        "openat": 257,
        "openat2": 437,
        "link": 86,
        "linkat": 265,
        "unlink": 87,
        "unlinkat": 263,
    },
    "aarch64": {"openat": 56, "openat2": 437, "linkat": 37, "unlinkat": 35},
}


class SharedMemory:
    """The files, by name."""

    def __init__(self) -> None:
        self.files: dict[bytes, int] = {}

    def handlers(self) -> Iterator[tuple[int, Answer]]:
        """What to do at which system call."""
        for name, number in NUMBERS[platform.machine()].items():
            yield number, Answer(getattr(self, name))

    def open(self, caller: Caller) -> NotifAction:
        return self._open(caller, 0, caller.call.args[1])

    def openat(self, caller: Caller) -> NotifAction:
        return self._open(caller, 1, caller.call.args[2])

    def openat2(self, caller: Caller) -> NotifAction:
        if _name(caller, 1) is None:
            return NotifAction.continue_()
        return self._open(caller, 1, struct.unpack("=Q", caller.memory(2, 8))[0])

    def link(self, caller: Caller) -> NotifAction:
        return self._link(caller, 0, 1)

    def linkat(self, caller: Caller) -> NotifAction:
        return self._link(caller, 1, 3)

    def unlink(self, caller: Caller) -> NotifAction:
        return self._unlink(caller, 0)

    def unlinkat(self, caller: Caller) -> NotifAction:
        return self._unlink(caller, 1)

    def _open(self, caller: Caller, argument: int, flags: int) -> NotifAction:
        name = _name(caller, argument)
        if name is None:
            return NotifAction.continue_()
        if name in self.files:
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise OSError(errno.EEXIST, "there is one")
        elif not flags & os.O_CREAT:
            raise OSError(errno.ENOENT, "there is none")
        elif len(self.files) >= MOST:
            raise OSError(errno.ENOSPC, "there are too many")
        else:
            self.files[name] = os.memfd_create(os.fsdecode(name))
        opened = os.open(f"/proc/self/fd/{self.files[name]}", flags & KEPT_FLAGS | os.O_CLOEXEC)
        return NotifAction.inject_fd_send(opened, flags & os.O_CLOEXEC)

    def _link(self, caller: Caller, old: int, new: int) -> NotifAction:
        there, wanted = _name(caller, old), _name(caller, new)
        if there is None or wanted is None:
            return NotifAction.continue_()  # Landlock refuses what leads out or in
        if there not in self.files:
            raise OSError(errno.ENOENT, "there is none")
        if wanted in self.files:
            raise OSError(errno.EEXIST, "there is one")
        self.files[wanted] = os.dup(self.files[there])
        return NotifAction.returns(0)

    def _unlink(self, caller: Caller, argument: int) -> NotifAction:
        name = _name(caller, argument)
        if name is None:
            return NotifAction.continue_()
        if name not in self.files:
            raise OSError(errno.ENOENT, "there is none")
        os.close(self.files.pop(name))
        return NotifAction.returns(0)


def _name(caller: Caller, argument: int) -> bytes | None:
    """The name below /dev/shm that a path means; None where it means another place."""
    at = caller.call.args[argument]
    if caller.call.read(at, len(PLACE)) != PLACE:
        return None
    name = caller.path(argument)[len(PLACE) :]
    return None if b"/" in name or name in (b"", b".", b"..") or len(name) > 200 else name
