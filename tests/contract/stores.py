"""The stores that one contract suite runs over, and what the suite journals."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from services.lead.journal import Entry, Filter, Journal, NewRun, Record, Row, RowKind
from services.lead.journal.sqlite import sqlite_journal

Opened = Callable[[], AbstractAsyncContextManager[Journal]]
"""Opens the same journal each time; no two at once."""


def sqlite(folder: Path) -> Opened:
    """Journals in one data folder."""
    ids = itertools.count(1)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Journal]:
        async with (
            asyncio.TaskGroup() as tasks,
            sqlite_journal(folder, tasks, new_log_id=lambda: f"log{next(ids)}") as journal,
        ):
            yield journal

    return opened


STORES: dict[str, Callable[[Path], Opened]] = {"sqlite": sqlite}


def run_of(run_id: str, project: str = "shop", request_id: str = "", digest: str = "d") -> NewRun:
    """A run to create."""
    return NewRun(run_id, project, request_id or f"request-{run_id}", digest)


def run_row(run_id: str, body: bytes = b"", *, final: bool = False) -> Row:
    """A run's row."""
    return Row(RowKind.RUN, run_id, 0, body, final)


def task_row(ordinal: int, body: bytes = b"", *, final: bool = False) -> Row:
    """The row of the task of that place in the plan."""
    return Row(RowKind.TASK, f"t{ordinal}", ordinal, body, final)


def told(body: bytes = b"told", kind: str = "progress_update", task_id: str = "") -> Record:
    """A public record."""
    return Record(kind, body, task_id=task_id)


def notice(attempt_id: str, sequence: int, body: bytes = b"notice") -> Record:
    """A record that an attempt broadcast."""
    return Record("activity_update", body, attempt_id=attempt_id, sequence=sequence)


async def read_all(journal: Journal, which: Filter | None = None, limit: int = 500) -> list[Entry]:
    """All entries that match, page by page."""
    entries: list[Entry] = []
    bounds = await journal.bounds()
    after = bounds.oldest
    while after < bounds.head:
        page = await journal.entries(after, which or Filter(public_only=False), limit)
        assert page.through > after
        assert all(after < entry.revision <= page.through for entry in page.entries)
        entries.extend(page.entries)
        after = page.through
    return entries
