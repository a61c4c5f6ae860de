"""A named pipe that commands tell into: what was said cannot be taken back, whatever they do afterwards."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.workers.verification.parse import ReportError

MOST_BYTES = 16 << 20
_CHUNK = 1 << 16


class Pipe:
    """The end that is read from, from the moment that the pipe is made."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = bytearray()
        self._size = 0

    def take(self) -> bool:
        """Take what is there now, at most 64 KiB of it; whether there was something."""
        try:
            piece = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return False
        self._size += len(piece)
        if self._size <= MOST_BYTES:
            self._data += piece
        return bool(piece)

    def all(self) -> bytes:
        """All that was told, once nobody is left to tell more. Raises ReportError over 16 MiB."""
        while self.take():
            pass
        if self._size > MOST_BYTES:
            raise ReportError(f"the tests told more than {MOST_BYTES >> 20} MiB")
        return bytes(self._data)


@contextmanager
def listening(place: Path) -> Iterator[Pipe]:
    """Make a pipe at a place, and take whatever is told into it, so that nobody who tells has to wait.

    Within a running event loop.
    """
    os.mkfifo(place, 0o600)
    # Open for writing as well: so it is there before who tells, and has no end when the first of them leaves.
    fd = os.open(place, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    loop = asyncio.get_running_loop()
    try:
        pipe = Pipe(fd)
        loop.add_reader(fd, pipe.take)
        try:
            yield pipe
        finally:
            loop.remove_reader(fd)
    finally:
        os.close(fd)
