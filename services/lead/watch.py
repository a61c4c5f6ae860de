"""StatusService: the journal as a stream, to every reader at its own pace."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from codeframe.errors import Violation
from codeframe.v1 import events_pb2, lead_pb2, status_pb2
from services.lead.journal import FLEET, Entry, Filter, Journal, RowKind, RunUnknown
from services.lead.journal.follow import follow
from services.lead.reads import public_run, public_task
from services.lead.refusals import refusing
from services.runtime.errors import InvalidArgument, NotFound, OutOfRange

BOOKMARK_EVERY = 10.0
"""Seconds between two bookmarks, at least."""

SERVICE = "codeframe.v1.StatusService"

KINDS = frozenset(field.name for field in events_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields)
"""The names of all payloads."""


def add_status_service(
    server: grpc.aio.Server,
    journal: Journal,
    workers: Callable[[], Sequence[lead_pb2.Worker]],
    *,
    bookmark_every: float = BOOKMARK_EVERY,
) -> None:
    """Serve StatusService. `workers` tells the fleet as it stands, for snapshots."""
    # Batches are bytes already: the generated registration would refuse them.
    watch: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
        StatusServicer(journal, workers, bookmark_every).WatchEvents,
        request_deserializer=status_pb2.WatchEventsRequest.FromString,
        response_serializer=None,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"WatchEvents": watch}),))


class StatusServicer:
    """Serves WatchEvents. A watch holds nothing between two messages but its place in the journal."""

    def __init__(
        self, journal: Journal, workers: Callable[[], Sequence[lead_pb2.Worker]], bookmark_every: float
    ) -> None:
        self._journal = journal
        self._workers = workers
        self._bookmark_every = bookmark_every

    async def WatchEvents(
        self, request: status_pb2.WatchEventsRequest, context: Any
    ) -> AsyncGenerator[bytes, None]:
        """Yield WatchEventsResponse messages, serialized; each waits until the one before was taken."""
        which = _filter(request)
        with refusing():
            await self._find(request)
            bounds = await self._journal.bounds()
            if request.WhichOneof("start") == "cursor":
                after = await self._place(request.cursor)
            else:
                after = bounds.head
                async for rows in self._snapshot(request):
                    yield rows.SerializeToString()
                yield _bookmark(bounds.log_id, after, snapshot_end=True)
            async with aclosing(self._events(request, which, bounds.log_id, after)) as batches:
                async for batch in batches:
                    yield batch

    async def _find(self, request: status_pb2.WatchEventsRequest) -> None:
        """See that every run and task named exists. Raises NotFound."""
        for run_id in request.run_ids:
            if run_id != FLEET:
                run = await self._journal.run(run_id)
                if run is None or request.project not in ("", run.run.project):
                    raise RunUnknown(run_id)
            for task_id in request.task_ids:
                if await self._journal.row(run_id, RowKind.TASK, task_id) is None:
                    raise NotFound("TASK_NOT_FOUND", f"run {run_id} has no task {task_id}")

    async def _place(self, cursor: str) -> int:
        """The revision of a cursor, which may be read on from. An empty one is before the oldest event."""
        bounds = await self._journal.bounds()
        if not cursor:
            return bounds.oldest
        log_id, _, revision = cursor.rpartition(".")
        if not log_id or not revision.isascii() or not revision.isdecimal() or len(revision) > 18:
            message = "is not one that this service gave; use one as it came, or take a snapshot"
            raise InvalidArgument(
                "INVALID_CURSOR", f"cursor {message}", violations=[Violation("cursor", message)]
            )
        if log_id != bounds.log_id:
            raise OutOfRange(
                "LOG_CHANGED", f"the cursor is of another log than {bounds.log_id}; take a snapshot"
            )
        # The journal judges it: what it would refuse to read on from, it refuses now.
        await self._journal.entries(int(revision), Filter(), 1)
        return int(revision)

    async def _snapshot(
        self, request: status_pb2.WatchEventsRequest
    ) -> AsyncGenerator[status_pb2.WatchEventsResponse, None]:
        """What stands now, in pages."""
        of_fleet = not request.task_ids and (not request.run_ids or FLEET in request.run_ids)
        if of_fleet and (workers := self._workers()):
            yield status_pb2.WatchEventsResponse(workers=workers)
        async for run in self._runs(request):
            yield status_pb2.WatchEventsResponse(runs=[run])
            after: int | None = None
            more = True
            while more:
                try:
                    page = await self._journal.rows(run.run_id, RowKind.TASK, after=after)
                except RunUnknown:  # It was trimmed meanwhile.
                    break
                tasks = [public_task(stored) for stored in page.rows]
                if request.task_ids:
                    tasks = [task for task in tasks if task.task_id in request.task_ids]
                if tasks:
                    yield status_pb2.WatchEventsResponse(tasks=tasks)
                more = page.more
                after = page.rows[-1].row.ordinal if more else after

    async def _runs(self, request: status_pb2.WatchEventsRequest) -> AsyncGenerator[lead_pb2.Run, None]:
        """The runs that are watched, as they stand."""
        for run_id in request.run_ids:
            if stored := await self._journal.row(run_id, RowKind.RUN, run_id):
                yield public_run(stored)
        before, more = None, not request.run_ids
        while more:
            page = await self._journal.runs(request.project, before)
            for stored in page.rows:
                yield public_run(stored)
            more = page.more
            before = page.rows[-1].row.ordinal if more else before

    async def _events(
        self, request: status_pb2.WatchEventsRequest, which: Filter, log_id: str, after: int
    ) -> AsyncGenerator[bytes, None]:
        """The events after a revision: for ever, or until all that is named is final and sent."""
        now = asyncio.get_running_loop().time
        told, bookmarked = after, now()
        end = await self._end(request)
        if end is not None and after >= end:
            return
        async with aclosing(follow(self._journal, after, which, pulse=self._bookmark_every)) as pages:
            async for page in pages:
                if page.entries:
                    told = page.entries[-1].revision
                    yield _batch(log_id, page.entries)
                if page.through > told and now() - bookmarked >= self._bookmark_every:
                    told, bookmarked = page.through, now()
                    yield _bookmark(log_id, told)
                end = end if end is not None else await self._end(request)
                if end is not None and page.through >= end:
                    return

    async def _end(self, request: status_pb2.WatchEventsRequest) -> int | None:
        """The revision up to which all must be sent, once every run or task named is final."""
        runs = [run_id for run_id in request.run_ids if run_id != FLEET]  # which is never final
        if not runs:
            return None
        for run_id in runs:
            if await self._journal.unfinished(run_id, frozenset(request.task_ids)):
                return None
        return (await self._journal.bounds()).head


def _filter(request: status_pb2.WatchEventsRequest) -> Filter:
    """Which entries a request asks for. Raises InvalidArgument naming the field."""
    wrong = [
        Violation(f"kinds[{place}]", f"{kind!r} is not the name of a payload")
        for place, kind in enumerate(request.kinds)
        if kind not in KINDS
    ]
    if request.task_ids and len(request.run_ids) != 1:
        wrong.append(Violation("task_ids", "needs exactly one run in run_ids"))
    if wrong:
        message = "; ".join(f"{each.field}: {each.message}" for each in wrong)
        raise InvalidArgument("INVALID_REQUEST", message, violations=wrong)
    return Filter(
        request.project, frozenset(request.run_ids), frozenset(request.task_ids), frozenset(request.kinds)
    )


def _bookmark(log_id: str, revision: int, *, snapshot_end: bool = False) -> bytes:
    bookmark = status_pb2.Bookmark(
        revision=revision, cursor=f"{log_id}.{revision}", snapshot_end=snapshot_end
    )
    return status_pb2.WatchEventsResponse(bookmark=bookmark).SerializeToString()


def _batch(log_id: str, entries: Iterable[Entry]) -> bytes:
    """A WatchEventsResponse of events, whose stored bytes go in as they are."""
    return b"".join(_field(_EVENTS, _journaled(log_id, entry)) for entry in entries)


def _journaled(log_id: str, entry: Entry) -> bytes:
    framing = status_pb2.JournaledEvent(revision=entry.revision, cursor=f"{log_id}.{entry.revision}")
    return framing.SerializeToString() + _field(_EVENT, entry.record.body)


_EVENTS = status_pb2.WatchEventsResponse.DESCRIPTOR.fields_by_name["events"].number
_EVENT = status_pb2.JournaledEvent.DESCRIPTOR.fields_by_name["event"].number


def _field(number: int, body: bytes) -> bytes:
    """A length-delimited field of a message, as protobuf writes it."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
