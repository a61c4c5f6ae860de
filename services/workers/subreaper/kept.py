"""What is kept of an output."""

import os

CHUNK = 1 << 18


class Kept:
    """The head and the tail of an output of any length."""

    def __init__(self, bound: int) -> None:
        self.head, self.tail, self.half, self.total = bytearray(), bytearray(), max(1, bound // 2), 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self.half - len(self.head)
        self.head += data[:room]
        self.tail += data[room:] if room > 0 else data
        if len(self.tail) > 8 * self.half + CHUNK:
            del self.tail[: -self.half]

    def drain(self, fd: int) -> bool:
        """Take what stands in a non-blocking pipe, up to its capacity; False once nobody can write to it."""
        for _ in range(64):
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.add(data)
        return True

    def done(self) -> int:
        """Clip the tail; how many bytes were left out between head and tail."""
        del self.tail[: -self.half]
        return self.total - len(self.head) - len(self.tail)
