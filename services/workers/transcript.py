"""What was said between an agent and its model, as JSON lines."""

import json
from datetime import datetime

MAX_BYTES = 16 * 1024 * 1024


class Transcript:
    """Lines, added one by one up to 16 MiB; the first that does not fit and all after it are dropped."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        self.truncated = False

    def add(self, instant: datetime, kind: str, **said: object) -> None:
        """Add a line: when, what kind, and what was said."""
        line = json.dumps({"time": instant.isoformat(), "kind": kind, **said}).encode() + b"\n"
        self.truncated = self.truncated or self._size + len(line) > MAX_BYTES
        if not self.truncated:
            self._lines.append(line)
            self._size += len(line)

    def data(self) -> bytes:
        """All lines so far."""
        return b"".join(self._lines)
