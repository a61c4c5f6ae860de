"""The bill: what was asked and what it took, in a file that outlives the process.

The file holds JSON lines, each on the disk before anything else happens: one as a reply begins (its input is
owed from here on), one as it ends. `finished` follows the handing over of `message_stop` to the system: what
is on the bill as finished can be in the client's hands, so the same turn finished twice was paid twice.
"""

import fcntl
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from demo.claude.cache import InputTokens
from demo.claude.conversation import Conversation

Json = dict[str, object]
KINDS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


class BillError(Exception):
    """The bill cannot be kept."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A bill's sums: replies finished, digests of requests that finished more than once, tokens by kind."""

    finished: int
    paid_twice: list[str]
    totals: dict[str, int]


class Bill:
    """An append-only bill. `now` gives aware instants."""

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        """Open the bill in `folder`.

        Raises BillError where another process keeps it, or none can.
        """
        self._now = now
        try:
            self._file = open(folder / "bill.jsonl", "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise BillError(f"{folder}: no bill can be kept here: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise BillError(f"{folder}: another scripted Claude keeps its bill here") from None
        self._forget_torn_line()

    def _forget_torn_line(self) -> None:
        """A line that a kill cut short was never acted on."""
        data = self._read()
        if not data.endswith(b"\n"):
            self._file.truncate(data.rfind(b"\n") + 1)

    def started(self, request_id: str, model: str, conversation: Conversation, tokens: InputTokens) -> None:
        """A reply begins: its input is owed."""
        self._append(
            {
                "request_id": request_id,
                "state": "started",
                "start_time": self._instant(),
                "marker": conversation.marker,
                "turn": conversation.turn,
                "digest": conversation.digest,
                "model": model,
                "input_tokens": tokens.fresh,
                "cache_creation_input_tokens": tokens.written,
                "cache_read_input_tokens": tokens.read,
                "output_tokens": 0,
            }
        )

    def ended(self, request_id: str, state: Literal["finished", "broken"], output_tokens: int) -> None:
        """A reply ended, whole or not: its output is owed."""
        self._append(
            {
                "request_id": request_id,
                "state": state,
                "end_time": self._instant(),
                "output_tokens": output_tokens,
            }
        )

    def refused(self, request_id: str, status: int, message: str, conversation: Conversation | None) -> None:
        """A request was answered by an error: nothing is owed."""
        self._append(
            {
                "request_id": request_id,
                "state": "refused",
                "start_time": self._instant(),
                "marker": conversation.marker if conversation else None,
                "turn": conversation.turn if conversation else None,
                "digest": conversation.digest if conversation else None,
                "status": status,
                "message": message,
                "output_tokens": 0,
            }
        )

    def requests(self) -> list[Json]:
        """The requests, in the order they came, each with what is known of it.

        A reply that neither ended nor broke (it runs, or its server was killed) stands as started.
        """
        found: dict[str, Json] = {}
        for line in self._read().splitlines():
            entry = json.loads(line)
            found.setdefault(entry["request_id"], {}).update(entry)
        return list(found.values())

    def summary(self) -> "Summary":
        """What it comes to."""
        listed = self.requests()
        finished = Counter(str(entry["digest"]) for entry in listed if entry["state"] == "finished")
        return Summary(
            finished=finished.total(),
            paid_twice=sorted(digest for digest, times in finished.items() if times > 1),
            totals={kind: sum(int(str(entry.get(kind, 0))) for entry in listed) for kind in KINDS},
        )

    def close(self) -> None:
        """Let another process keep it."""
        self._file.close()

    def _instant(self) -> str:
        return self._now().isoformat()

    def _append(self, entry: Json) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        os.fsync(self._file.fileno())

    def _read(self) -> bytes:
        self._file.seek(0)
        return self._file.read()
