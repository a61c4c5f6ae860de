"""The journal in one SQLite file, for one lead at a time."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from services.lead.journal import (
    FLEET,
    PAGE_BYTES,
    PAGE_RECORDS,
    Appended,
    Bounds,
    Filter,
    JournalClosed,
    NewRun,
    Page,
    Record,
    RevisionAhead,
    RevisionTrimmed,
    Row,
    RowKind,
    RowPage,
    RunHead,
    RunUnknown,
    StoredRow,
)
from services.lead.journal.columns import names, page, row_page, run_head, stored_row
from services.lead.journal.database import Database, opened
from services.lead.journal.folder import held
from services.lead.journal.turns import Answers, Append, Turns
from services.lead.journal.writer import commit

T = TypeVar("T")

_SCAN = 10_000
"""A read of several runs looks at so many revisions at most: it holds an append up for milliseconds."""


@asynccontextmanager
async def sqlite_journal(
    folder: Path, tasks: asyncio.TaskGroup, *, new_log_id: Callable[[], str]
) -> AsyncIterator["SqliteJournal"]:
    """The journal in a data folder, which it holds; made where there is none. Served by a task of `tasks`.

    Closing waits for every append handed in. Raises StoreFailed: another lead holds the folder, or its file
    cannot be used.
    """
    with held(folder):
        async with opened(folder / "journal.sqlite3", new_log_id()) as database:
            ((log_id, oldest, head),) = await database.fetch("bounds")
            journal = SqliteJournal(database, Bounds(log_id, oldest, head))
            serving = tasks.create_task(journal.serve(), name="journal")
            try:
                yield journal
            finally:
                journal.close()
                try:
                    await asyncio.wait({serving})
                finally:
                    serving.cancel()


class SqliteJournal:
    """`Journal` over one connection, which appends and reads take in turns."""

    def __init__(self, database: Database, bounds: Bounds) -> None:
        self._database = database
        self._bounds = bounds
        self._turns = Turns(self._commit)
        self._news = asyncio.Event()

    async def serve(self) -> None:
        """Serve appends and reads until closed."""
        try:
            await self._turns.serve()
        finally:
            self._news.set()

    def close(self) -> None:
        """Refuse new calls; `serve` returns once every append that waits was answered."""
        self._turns.close()
        self._news.set()

    async def _commit(self, group: Sequence[Append]) -> Answers:
        answers = await commit(self._database, self._bounds, group)
        head = max((answer.last for answer in answers if isinstance(answer, Appended)), default=0)
        if head:
            self._bounds = Bounds(self._bounds.log_id, self._bounds.oldest, head)
            news, self._news = self._news, asyncio.Event()
            news.set()
        return answers

    async def create(self, run: NewRun, records: Sequence[Record], rows: Sequence[Row]) -> Appended:
        """See Journal."""
        return await self._turns.append(_append(run.run_id, records, rows, 0, None, new=run))

    async def claim(
        self, run_id: str, records: Sequence[Record], rows: Sequence[Row] = (), *, expected_head: int
    ) -> Appended:
        """See Journal."""
        return await self._turns.append(_append(run_id, records, rows, expected_head, None, claims=True))

    async def append(
        self,
        run_id: str,
        records: Sequence[Record],
        rows: Sequence[Row] = (),
        *,
        expected_head: int,
        term: int | None,
    ) -> Appended:
        """See Journal."""
        return await self._turns.append(_append(run_id, records, rows, expected_head, term))

    async def bounds(self) -> Bounds:
        """See Journal."""
        if self._turns.closed:
            raise JournalClosed("the journal is closed")
        return self._bounds

    async def changed(self, after: int) -> None:
        """See Journal."""
        while not self._turns.closed:
            if self._bounds.head > after:
                return
            await self._news.wait()
        raise JournalClosed("the journal is closed")

    async def entries(self, after: int, which: Filter, limit: int = PAGE_RECORDS) -> Page:
        """See Journal."""
        return await self._read(lambda: self._entries(after, which, min(limit, PAGE_RECORDS)))

    async def run_entries(self, run_id: str, after: int = 0, limit: int = PAGE_RECORDS) -> Page:
        """See Journal."""
        return await self._read(lambda: self._run_entries(run_id, after, _ALL, min(limit, PAGE_RECORDS)))

    async def run(self, run_id: str) -> RunHead | None:
        """See Journal."""
        return await self._read(lambda: self._run(run_id))

    async def requested(self, project: str, request_id: str) -> RunHead | None:
        """See Journal."""
        found = await self._read(
            lambda: self._database.fetch("requested", project=project, request_id=request_id)
        )
        return run_head(found[0]) if found else None

    async def open_runs(self, after: int = 0) -> tuple[RunHead, ...]:
        """See Journal."""
        found = await self._read(lambda: self._database.fetch("open_runs", after=after, limit=PAGE_RECORDS))
        return tuple(run_head(columns) for columns in found)

    async def unfinished(self, run_id: str, tasks: frozenset[str] = frozenset()) -> int:
        """See Journal."""
        return await self._read(lambda: self._unfinished(run_id, tasks))

    async def runs(self, project: str = "", before: int | None = None, limit: int = PAGE_RECORDS) -> RowPage:
        """See Journal."""
        return row_page(
            await self._read(
                lambda: self._database.fetch(
                    "run_rows",
                    project=project,
                    before=before,
                    limit=min(limit, PAGE_RECORDS),
                    bytes=PAGE_BYTES,
                )
            )
        )

    async def rows(
        self,
        run_id: str,
        kind: RowKind,
        task_id: str = "",
        after: int | None = None,
        limit: int = PAGE_RECORDS,
    ) -> RowPage:
        """See Journal."""
        return row_page(
            await self._read(lambda: self._rows(run_id, kind.value, task_id, after, min(limit, PAGE_RECORDS)))
        )

    async def row(self, run_id: str, kind: RowKind, row_id: str) -> StoredRow | None:
        """See Journal."""
        found = await self._read(
            lambda: self._database.fetch("row", run_id=run_id, kind=kind.value, id=row_id)
        )
        return stored_row(found[0]) if found else None

    async def attempt(self, attempt_id: str) -> StoredRow | None:
        """See Journal."""
        found = await self._read(lambda: self._database.fetch("attempt", id=attempt_id))
        return stored_row(found[0]) if found else None

    async def trim(self, through: int) -> tuple[str, ...]:
        """See Journal."""
        return await self._read(lambda: self._trim(through))

    async def _read(self, ask: Callable[[], Awaitable[T]]) -> T:
        async def asked() -> T:
            try:
                return await ask()
            except sqlite3.Error as error:
                raise await self._database.failed(error) from error

        return await self._turns.read(asked)

    async def _run(self, run_id: str) -> RunHead | None:
        found = await self._database.fetch("run", run_id=run_id)
        return run_head(found[0]) if found else None

    async def _entries(self, after: int, which: Filter, limit: int) -> Page:
        if after < self._bounds.oldest:
            raise RevisionTrimmed(self._bounds.oldest)
        if after > self._bounds.head:
            raise RevisionAhead(self._bounds.head)
        if len(which.runs) == 1:
            (run_id,) = which.runs
            return await self._run_entries(run_id, after, which, limit)
        to = min(self._bounds.head, after + _SCAN)
        return await self._page("entries", to, limit, which, after=after, until=to, runs=names(which.runs))

    async def _run_entries(self, run_id: str, after: int, which: Filter, limit: int) -> Page:
        return await self._page("run_entries", self._bounds.head, limit, which, after=after, run_id=run_id)

    async def _page(self, query: str, to: int, limit: int, which: Filter, **where: Any) -> Page:
        found = await self._database.fetch(
            query,
            project=which.project,
            kinds=names(which.kinds),
            tasks=names(which.tasks),
            public_only=which.public_only,
            limit=limit,
            bytes=PAGE_BYTES,
            **where,
        )
        return page(found, to, limit)

    async def _unfinished(self, run_id: str, tasks: frozenset[str]) -> int:
        run = await self._run(run_id)
        if run is None:
            raise RunUnknown(run_id)
        if not tasks:
            return int(not run.final)
        ((final,),) = await self._database.fetch("final_tasks", run_id=run_id, tasks=names(tasks))
        return len(tasks) - int(final)

    async def _rows(self, run_id: str, kind: str, task_id: str, after: int | None, limit: int) -> list[Any]:
        found = await self._database.fetch(
            "rows", run_id=run_id, kind=kind, task_id=task_id, after=after, limit=limit, bytes=PAGE_BYTES
        )
        if not found and await self._run(run_id) is None:
            raise RunUnknown(run_id)
        return found

    async def _trim(self, through: int) -> tuple[str, ...]:
        through = min(through, self._bounds.head)
        if through <= self._bounds.oldest:
            return ()
        await self._database.run("begin")
        ended = await self._database.fetch("ended_runs", through=through)
        await self._database.run("drop_standing", through=through)
        await self._database.run("drop_runs", through=through)
        await self._database.run("drop_records", through=through)
        await self._database.run("set_oldest", oldest=through)
        await self._database.run("commit")
        self._bounds = Bounds(self._bounds.log_id, through, self._bounds.head)
        return tuple(run_id for (run_id,) in ended)


_ALL = Filter(public_only=False)


def _append(
    run_id: str,
    records: Sequence[Record],
    rows: Sequence[Row],
    expected_head: int,
    term: int | None,
    *,
    new: NewRun | None = None,
    claims: bool = False,
) -> Append:
    """An append to wait for. Raises ValueError for one that no store could take."""
    if not records:
        raise ValueError(f"an append to run {run_id} has no records")
    if run_id == FLEET and rows:
        raise ValueError("the fleet has no rows")
    if any(row.kind is RowKind.RUN and row.id != run_id for row in rows):
        raise ValueError(f"a run row of run {run_id} has another id")
    answer: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
    return Append(run_id, tuple(records), tuple(rows), expected_head, term, answer, new, claims)
