"""The process that made a system call which the launcher answers: its memory, descriptors and folder.

It may change them at any time, so each is looked at once; what is found is judged and used as it was found.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from sandlock.handler import ExceptionPolicy, Handler, HandlerCtx, NotifAction

PAGE = 4096
AT_FDCWD = -100
OWN = ((b"/proc/self/", b"/proc/%d/"), (b"/proc/thread-self/", b"/proc/%d/"), (b"/dev/fd/", b"/proc/%d/fd/"))


@dataclass(frozen=True, slots=True)
class Caller:
    """One call. Its methods raise the OSError that the caller is to see."""

    call: HandlerCtx

    def number(self, argument: int) -> int:
        """An argument, as the signed int that the kernel takes it for."""
        return ctypes.c_int(self.call.args[argument] & 0xFFFFFFFF).value

    def memory(self, argument: int, count: int) -> bytes:
        """So many bytes of its memory."""
        found: bytes | None = self.call.read(self.call.args[argument], count)
        if found is None or len(found) < count:
            raise OSError(errno.EFAULT, "its memory is not there")
        return found

    def path(self, argument: int) -> bytes:
        """A path, as it wrote it."""
        at, found = self.call.args[argument], b""
        piece: bytes | None
        while len(found) < PAGE:
            piece = self.call.read(at, PAGE - at % PAGE)  # what comes next may not be there
            if not piece:
                raise OSError(errno.EFAULT, "its memory is not there")
            text, end, _ = piece.partition(b"\0")
            found += text
            if end:
                return found
            at += len(piece)
        raise OSError(errno.ENAMETOOLONG, "its path has no end")

    def open(self, folder: int, path: bytes, follow: bool) -> int:
        """A descriptor that only names what is at a path, relative to a folder's descriptor or its own."""
        if not path:
            raise OSError(errno.ENOENT, "its path is empty")
        for own, others in OWN:
            if path.startswith(own):
                path = others % self.call.pid + path[len(own) :]
        flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        if path.startswith(b"/"):
            return os.open(path, flags)
        base = self.folder() if folder == AT_FDCWD else self.file(folder)
        try:
            return os.open(path, flags, dir_fd=base)
        finally:
            os.close(base)

    def folder(self) -> int:
        """Its own folder."""
        return os.open(f"/proc/{self.call.pid}/cwd", os.O_PATH | os.O_CLOEXEC)

    def file(self, fd: int) -> int:
        """What one of its descriptors stands for."""
        try:
            return os.open(f"/proc/{self.call.pid}/fd/{fd}", os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            raise OSError(errno.EBADF, "it has no such descriptor") from None


class Answer(Handler):  # type: ignore[misc]
    """Has a function answer a system call.

    It returns what is to be done; None where the call has succeeded. An OSError is what the caller sees.
    """

    on_exception = ExceptionPolicy.DENY_EPERM

    def __init__(self, answer: Callable[[Caller], NotifAction | None]) -> None:
        self._answer = answer

    def handle(self, call: HandlerCtx) -> NotifAction:
        try:
            return self._answer(Caller(call)) or NotifAction.returns(0)
        except OSError as problem:
            return NotifAction.errno(problem.errno or errno.EPERM)
