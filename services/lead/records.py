"""A draft as the journal stores it, and back: records for its events, rows for what it changed."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, cast, get_args

from pydantic import TypeAdapter

from codeframe.internal.v1 import records_pb2, rows_pb2
from codeframe.v1 import events_pb2
from services.lead.journal import Record, Row, RowKind
from services.lead.machine import events as e
from services.lead.machine import private_records as r
from services.lead.machine.attempt import Attempt
from services.lead.machine.draft import Draft
from services.lead.machine.fold import begin, fold
from services.lead.machine.run import Run
from services.lead.machine.state import RunCore, RunFacts
from services.lead.machine.task import Task
from services.lead.public import (
    attempt_to_proto,
    event_from_proto,
    event_to_proto,
    instant,
    run_to_proto,
    task_to_proto,
)

PIECE = 500
"""So many records or rows are made before others have their turn: some 20 ms."""

Made = TypeVar("Made")

_PRIVATE: dict[str, type] = {kind.__name__: kind for kind in get_args(r.PrivateRecord)}
_TASK, _ATTEMPT = TypeAdapter(Task), TypeAdapter(Attempt)
_STATE = TypeAdapter(tuple[RunFacts, RunCore])
_TIMED: dict[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(tuple[datetime, kind])  # type: ignore[valid-type]
    for kind in _PRIVATE.values()
}


async def written(draft: Draft) -> tuple[list[Record], list[Row]]:
    """The records and rows of a draft, made piece by piece: one of 10,000 tasks holds nobody up."""
    stored = [record async for record in _paced(records(draft))]
    return stored, [row async for row in _paced(rows(draft))]


async def _paced(made: Iterable[Made]) -> AsyncIterator[Made]:
    for number, each in enumerate(made, 1):
        yield each
        if not number % PIECE:
            await asyncio.sleep(0)


def records(draft: Draft) -> Iterator[Record]:
    """The events of a draft, in order."""
    facts = draft.run.facts
    return (_record(event, time, facts) for event, time in draft.events)


def _record(event: e.Event, time: datetime, facts: RunFacts) -> Record:
    task_id, attempt_id = getattr(event, "task_id", ""), getattr(event, "attempt_id", "")
    if type(event).__name__ in _PRIVATE:
        body = _private(cast(r.PrivateRecord, event), time)
        return Record(type(event).__name__, body, public=False, task_id=task_id, attempt_id=attempt_id)
    message = event_to_proto(cast(e.PublicEvent, event), facts.run_id, facts.project, time)
    kind = message.WhichOneof("payload") or ""
    payload = getattr(message, kind)
    return Record(
        kind,
        message.SerializeToString(deterministic=True),
        task_id=getattr(payload, "task_id", "") or getattr(payload, "current_task_id", ""),
        attempt_id=message.attempt_id,
        sequence=message.sequence,
    )


def _private(event: r.PrivateRecord, time: datetime) -> bytes:
    attachment = b""
    if isinstance(event, r.AttemptBound):
        attachment, event = event.request, replace(event, request=b"")
    elif isinstance(event, r.ResultRecorded):
        attachment, event = event.result, replace(event, result=b"")
    state: bytes = _TIMED[type(event)].dump_json((time, event))
    return records_pb2.PrivateRecord(state=state, attachment=attachment).SerializeToString()


def event(record: Record) -> tuple[e.Event, datetime] | None:
    """The event that a record was written from, and when it happened; None where `fold` reads none."""
    if record.public:
        message = events_pb2.Event.FromString(record.body)
        told = event_from_proto(message)
        return (told, instant(message.event_time)) if told else None
    stored = records_pb2.PrivateRecord.FromString(record.body)
    private: r.PrivateRecord
    time, private = _TIMED[_PRIVATE[record.kind]].validate_json(stored.state)
    if isinstance(private, r.AttemptBound):
        private = replace(private, request=stored.attachment)
    elif isinstance(private, r.ResultRecorded):
        private = replace(private, result=stored.attachment)
    return private, time


def rows(draft: Draft) -> Iterator[Row]:
    """Where the run stands after a draft, and every task and attempt that it touched."""
    run = draft.run
    yield _run_row(run)
    yield from (_task_row(run.tasks[task_id], run) for task_id in run.touched_tasks)
    yield from (_attempt_row(run.attempts[attempt_id], run) for attempt_id in run.touched_attempts)


def _run_row(run: Run) -> Row:
    state = _STATE.dump_json((run.facts, run.core))
    body = rows_pb2.RunRow(public=run_to_proto(run), state=state)
    return Row(RowKind.RUN, run.facts.run_id, 0, body.SerializeToString(), final=run.core.state.final)


def _task_row(task: Task, run: Run) -> Row:
    body = rows_pb2.TaskRow(public=task_to_proto(task, run.facts.run_id), state=_TASK.dump_json(task))
    final = task.state.final
    return Row(RowKind.TASK, task.id, task.index, body.SerializeToString(), final=final, task_id=task.id)


def _attempt_row(attempt: Attempt, run: Run) -> Row:
    bare = replace(attempt, request=b"", result=b"")
    body = rows_pb2.AttemptRow(state=_ATTEMPT.dump_json(bare), request=attempt.request)
    if not attempt.unbound:
        body.public.CopyFrom(attempt_to_proto(attempt, run.facts.run_id))
    return Row(
        RowKind.ATTEMPT,
        attempt.id,
        attempt.ordinal,
        body.SerializeToString(),
        final=attempt.outcome is not None,
        task_id=attempt.task_id,
    )


def load(run_row: bytes, task_rows: Iterable[bytes], attempt_rows: Iterable[bytes]) -> Run:
    """A run from the bodies of its rows, tasks in plan order, attempts as they were first bound."""
    facts, core = _STATE.validate_json(rows_pb2.RunRow.FromString(run_row).state)
    tasks = [_TASK.validate_json(rows_pb2.TaskRow.FromString(body).state) for body in task_rows]
    return Run(facts, core, tasks, [_load_attempt(body) for body in attempt_rows])


def _load_attempt(body: bytes) -> Attempt:
    row = rows_pb2.AttemptRow.FromString(body)
    result = row.public.result.SerializeToString() if row.public.HasField("result") else b""
    return replace(_ATTEMPT.validate_json(row.state), request=row.request, result=result)


def folded(stored: Sequence[Record]) -> Run:
    """A run from its records alone, the first of which is its RunCreated: what the rows must equal.

    Raises ValueError where the first record is another.
    """
    run: Run | None = None
    for record in stored:
        told = event(record)
        if told is None:
            continue
        happened, time = told
        if run is None:
            if not isinstance(happened, r.RunCreated):
                raise ValueError(f"a run begins with RunCreated, not {record.kind}")
            run = begin(happened)
        else:
            fold(run, happened, time)
    if run is None:
        raise ValueError("a run begins with RunCreated, and there is no record")
    return run
