"""Group commit: many appends in one transaction, each refused alone."""

import sqlite3
from collections.abc import Sequence

from services.lead.journal import (
    PAGE_BYTES,
    PAGE_RECORDS,
    Appended,
    Bounds,
    DuplicateNotice,
    Fenced,
    HeadMoved,
    JournalError,
    NewRun,
    Record,
    RequestIdTaken,
    RevisionTrimmed,
    Row,
    RowKind,
    RunHead,
    RunUnknown,
    StoreFailed,
)
from services.lead.journal.columns import page, run_head
from services.lead.journal.database import Database
from services.lead.journal.turns import Answers, Append


async def commit(database: Database, bounds: Bounds, group: Sequence[Append]) -> Answers:
    """Write a group after the log's head. What is not refused is durable when this returns, or none of it."""
    head = bounds.head
    answers: list[Appended | JournalError] = []
    try:
        await database.run("begin")
        for append in group:
            await database.run("savepoint")
            try:
                appended = await _write(database, bounds.oldest, head, append)
            except JournalError as refusal:
                await database.run("undo")
                answers.append(refusal)
            else:
                head = appended.last
                answers.append(appended)
            await database.run("release")
        await database.run("set_head", head=head)
        await database.run("commit")
    except sqlite3.Error as error:
        return [await database.failed(error)] * len(group)
    return answers


async def _write(database: Database, oldest: int, head: int, append: Append) -> Appended:
    """Write one append after `head`, inside the group's transaction. Raises what refuses it."""
    first, last = head + 1, head + len(append.records)
    standing = await _standing(database, append.run_id)
    if append.new is not None:
        await _refuse_repeat(database, append.new, standing)
        standing = RunHead(append.new, created=first, head=0, term=1, final=False)
    elif standing is None:
        raise RunUnknown(append.run_id)
    elif append.term is not None and append.term != standing.term:
        raise Fenced(append.run_id, standing.term)
    elif append.expected_head != standing.head:
        raise await _moved(database, oldest, append)
    term = standing.term + append.claims
    final = next((row.final for row in append.rows if row.kind is RowKind.RUN), standing.final)
    try:
        await database.many(
            "insert_record", [_record(append.run_id, *at) for at in enumerate(append.records, first)]
        )
        await database.many("put_row", [_row(standing, last, row) for row in append.rows])
    except sqlite3.IntegrityError as error:
        raise await _broken_rule(database, head, append, error) from error
    await database.run(
        "put_run",
        run_id=append.run_id,
        project=standing.run.project,
        request_id=standing.run.request_id,
        digest=standing.run.digest,
        created=standing.created,
        head=last,
        term=term,
        final=final,
    )
    return Appended(first, last, term)


async def _standing(database: Database, run_id: str) -> RunHead | None:
    found = await database.fetch("run", run_id=run_id)
    return run_head(found[0]) if found else None


async def _refuse_repeat(database: Database, new: NewRun, standing: RunHead | None) -> None:
    taken = await database.fetch("requested", project=new.project, request_id=new.request_id)
    if taken:
        raise RequestIdTaken(run_head(taken[0]))
    if standing is not None:
        raise StoreFailed(f"there is a run {new.run_id} already; nothing was written")


async def _moved(database: Database, oldest: int, append: Append) -> JournalError:
    """What was appended to a run since its expected head: the first page of it."""
    if append.expected_head < oldest:
        return RevisionTrimmed(oldest)
    found = await database.fetch(
        "run_entries",
        run_id=append.run_id,
        after=append.expected_head,
        project="",
        kinds=None,
        tasks=None,
        public_only=False,
        limit=PAGE_RECORDS,
        bytes=PAGE_BYTES,
    )
    return HeadMoved(page(found, append.expected_head, PAGE_RECORDS).entries)


async def _broken_rule(
    database: Database, head: int, append: Append, error: sqlite3.IntegrityError
) -> JournalError:
    """Which rule an append broke, some of which may be written after `head` by now."""
    seen = set()
    for record in append.records:
        notice = (record.attempt_id, record.sequence)
        if record.sequence > 0 and (
            notice in seen
            or await database.fetch(
                "journaled_notice", attempt_id=record.attempt_id, sequence=record.sequence, head=head
            )
        ):
            return DuplicateNotice(*notice)
        seen.add(notice)
    return StoreFailed(f"an append to run {append.run_id} breaks a rule of the journal: {error}")


def _record(run_id: str, revision: int, record: Record) -> tuple[object, ...]:
    return (
        revision,
        run_id,
        record.kind,
        record.public,
        record.task_id,
        record.attempt_id,
        record.sequence,
        record.body,
    )


def _row(run: RunHead, revision: int, row: Row) -> tuple[object, ...]:
    """A run's row is ordered among all runs, by when the run was created; a task's is of itself."""
    ordinal = run.created if row.kind is RowKind.RUN else row.ordinal
    task_id = row.id if row.kind is RowKind.TASK else row.task_id
    return (run.run.run_id, row.kind.value, row.id, ordinal, task_id, row.final, revision, row.body)
