"""The log of what an attempt broadcast, which any number of watchers read at their own pace."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.workers.broadcast import Activity, Correction, Notice
from services.workers.clock import Clock
from services.workers.outcome import AttemptFailed, Outcome

NOTICES_LIMIT = 10_000
BYTES_LIMIT = 16 << 20
HEARTBEAT = 10.0
BATCH_LIMIT = 250
_BATCH_BYTES = 256 << 10
_MESSAGE_LIMIT = 4_000  # characters, so that an event stays under 64 KiB whatever they are
_SUMMARY_LIMIT = 10_000
_FIXED = 160  # bytes of a notice besides its text, as they travel


@dataclass(frozen=True, slots=True)
class LoggedNotice:
    """A notice in its place. Sequences count from 1, without gaps."""

    sequence: int
    time: datetime
    notice: Notice


@dataclass(frozen=True, slots=True)
class Batch:
    """Notices in the order of their sequences; none in a heartbeat. `idle`: since the loop's last step."""

    notices: tuple[LoggedNotice, ...]
    idle: timedelta


class NoticeLog:
    """What one attempt broadcast, in order. `append` is its Broadcast."""

    def __init__(self, clock: Clock, *, notices: int = NOTICES_LIMIT, size: int = BYTES_LIMIT) -> None:
        self._clock = clock
        self._notices_limit = notices
        self._bytes_limit = size
        self._log: list[LoggedNotice] = []
        self._last_step = clock.monotonic()
        self._changed: asyncio.Event | None = None  # where somebody waits for it
        self._closed = False
        self.size = 0

    @property
    def last_sequence(self) -> int:
        """The sequence of the last notice; 0 where there is none."""
        return len(self._log)

    async def append(self, notice: Notice) -> None:
        """Give the notice the next sequence. Raises AttemptFailed (LIMIT_EXCEEDED) where the log is full."""
        notice = _clipped(notice)
        size = _FIXED + len(_text(notice).encode())
        if self._closed or len(self._log) >= self._notices_limit or self.size + size > self._bytes_limit:
            raise AttemptFailed(
                Outcome.LIMIT_EXCEEDED,
                f"an attempt has at most {self._notices_limit} notices or {self._bytes_limit} bytes of them",
            )
        self.size += size
        self._log.append(LoggedNotice(len(self._log) + 1, self._clock.now(), notice))
        self._last_step = self._clock.monotonic()
        self._tell()

    def close(self) -> None:
        """There will be no more: watchers get the rest, and end."""
        self._closed = True
        self._tell()

    async def follow(self, after: int, heartbeat: float = HEARTBEAT) -> AsyncIterator[Batch]:
        """Every notice after a sequence, to the end; while there is none, a heartbeat every so many seconds.

        A reader that does not ask for the next batch holds nothing but its place.
        """
        while True:
            while batch := self._batch(after):
                after = batch[-1].sequence
                yield Batch(batch, self._idle())
            if self._closed:
                return
            changed = self._changed = self._changed or asyncio.Event()
            try:
                async with asyncio.timeout(heartbeat):
                    await changed.wait()
            except TimeoutError:
                yield Batch((), self._idle())

    def _batch(self, after: int) -> tuple[LoggedNotice, ...]:
        batch: list[LoggedNotice] = []
        size = 0
        for entry in self._log[after : after + BATCH_LIMIT]:
            size += _FIXED + 4 * len(_text(entry.notice))
            if batch and size > _BATCH_BYTES:
                break
            batch.append(entry)
        return tuple(batch)

    def _idle(self) -> timedelta:
        return timedelta(seconds=self._clock.monotonic() - self._last_step)

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _clipped(notice: Notice) -> Notice:
    match notice:
        case Activity(message=text):
            return replace(notice, message=_fitting(text, _MESSAGE_LIMIT))
        case Correction(error_summary=str(text)):
            return replace(notice, error_summary=_fitting(text, _SUMMARY_LIMIT))
    return notice


def _fitting(text: str, limit: int) -> str:
    """At most so many characters, all of which can be sent."""
    clipped = text if len(text) <= limit else text[: limit - 1] + "…"
    return clipped.encode(errors="replace").decode()


def _text(notice: Notice) -> str:
    match notice:
        case Activity(message=text):
            return text
        case Correction(error_summary=str(text)):
            return text
    return ""
