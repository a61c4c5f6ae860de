"""Whose turn it is at the store's one connection: appends in groups, then a read."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from services.lead.journal import Appended, JournalClosed, JournalError, NewRun, Record, Row

T = TypeVar("T")

GROUP = 256
"""At most so many appends are committed together."""


@dataclass(frozen=True, slots=True, eq=False)
class Append:
    """An append that waits. `new` creates its run; `claims` raises the run's term."""

    run_id: str
    records: tuple[Record, ...]
    rows: tuple[Row, ...]
    expected_head: int
    term: int | None
    answer: asyncio.Future[Appended]
    new: NewRun | None = None
    claims: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    ask: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[Any]


Answers = Sequence[Appended | JournalError]


class Turns:
    """Serves what waits, one thing at a time, until it is closed.

    What waits is bounded by its callers, each of whom awaits its own. Appends go first; while more keep
    coming, one read follows each group, so that neither starves.
    """

    def __init__(self, commit: Callable[[Sequence[Append]], Awaitable[Answers]]) -> None:
        """`commit` answers each append of a group, all or none durable when it returns; it never raises
        but for cancellation."""
        self._commit = commit
        self._appends: deque[Append] = deque()
        self._reads: deque[_Read] = deque()
        self._work = asyncio.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether new calls are refused."""
        return self._closed

    async def append(self, append: Append) -> Appended:
        """Wait for an append's answer. Cancelling the wait withdraws nothing."""
        if self._closed:
            raise JournalClosed("the journal is closed")
        self._appends.append(append)
        self._work.set()
        return await append.answer

    async def read(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Make a call when it is its turn, and return its answer. Cancelling the wait drops the call."""
        if self._closed:
            raise JournalClosed("the journal is closed")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._reads.append(_Read(ask, answer))
        self._work.set()
        return await answer

    def close(self) -> None:
        """Refuse new calls; `serve` returns once every append that waits is answered."""
        self._closed = True
        self._work.set()

    async def serve(self) -> None:
        """Serve until closed. When it ends early, by cancellation, whoever waits gets JournalClosed."""
        group: list[Append] = []
        try:
            while True:
                if self._appends:
                    group = [self._appends.popleft() for _ in range(min(GROUP, len(self._appends)))]
                    for append, answer in zip(group, await self._commit(group), strict=True):
                        _settle(append.answer, answer)
                if self._closed and not self._appends:
                    return
                if self._reads and not self._closed:
                    await self._serve_read(self._reads.popleft())
                elif not self._appends:
                    self._work.clear()
                    await self._work.wait()
        finally:
            self._closed = True
            waiting: list[Append | _Read] = [*group, *self._appends, *self._reads]
            for each in waiting:
                _settle(each.answer, JournalClosed("the journal was closed before it answered"))

    async def _serve_read(self, read: _Read) -> None:
        if read.answer.done():
            return
        try:
            answer = await read.ask()
        except Exception as error:
            _settle(read.answer, error)
        except asyncio.CancelledError:
            _settle(read.answer, JournalClosed("the journal was closed before it answered"))
            raise
        else:
            _settle(read.answer, answer)


def _settle(waiting: asyncio.Future[Any], answer: object) -> None:
    """Answer whoever still waits; a wait that was cancelled is done."""
    if waiting.done():
        return
    if isinstance(answer, Exception):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)
