"""A lead at its seam: a real gRPC server that answers from what a test holds."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import Message

from codeframe.client import RetryPolicy
from codeframe.client.backoff import Backoff
from codeframe.v1 import events_pb2, evidence_pb2, lead_pb2, lead_pb2_grpc, status_pb2, status_pb2_grpc
from services.runtime.errors import NotFound, OutOfRange, ServiceError
from services.runtime.interceptors import EdgeInterceptor

LOG = "log"

QUICK = RetryPolicy(Backoff(first=0.01, limit=0.05))
"""For clients in tests."""


Refusal = ServiceError | grpc.StatusCode
"""What to answer with; a bare status is one that no lead of ours made."""


@dataclass(slots=True)
class CannedLead(lead_pb2_grpc.LeadServiceServicer, status_pb2_grpc.StatusServiceServicer):
    """What a lead would know. Tests change it between calls, and wait for `asked`."""

    runs: list[lead_pb2.Run] = field(default_factory=list)
    tasks: list[lead_pb2.Task] = field(default_factory=list)
    attempts: list[lead_pb2.Attempt] = field(default_factory=list)
    workers: list[lead_pb2.Worker] = field(default_factory=list)
    artifacts: dict[tuple[str, str], bytes] = field(default_factory=dict)
    journal: list[status_pb2.JournaledEvent] = field(default_factory=list)
    refusals: dict[str, deque[Refusal]] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    watches: int = 0
    writing: int = 0
    oldest: int = 0
    chunk: int = 4
    breaks: int = 0
    same_run: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def refuse(self, method: str, *refusals: Refusal) -> None:
        """The next calls of a method are answered so, one each."""
        self.refusals.setdefault(method, deque()).extend(refusals)

    def asked(self, method: str) -> list[Any]:
        """The requests of a method so far."""
        return [request for request in self.requests if type(request).__name__ == f"{method}Request"]

    async def tell(self, *events: events_pb2.Event, ended: lead_pb2.Run | None = None) -> None:
        """Journal events, and with them the end of a run, where one is named."""
        async with self.changed:
            if ended is not None:
                ended.end_time.GetCurrentTime()
            for event in events:
                revision = self.journal[-1].revision + 1 if self.journal else 1
                self.journal.append(
                    status_pb2.JournaledEvent(revision=revision, cursor=f"{LOG}.{revision}", event=event)
                )
            self.changed.notify_all()

    async def break_watches(self) -> None:
        """End every open watch as a broken connection would."""
        async with self.changed:
            self.breaks += 1
            self.changed.notify_all()

    async def watched(self, count: int) -> None:
        """Return once so many watches are open."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.watches == count)

    async def CreateRun(self, request: lead_pb2.CreateRunRequest, context: Any) -> lead_pb2.CreateRunResponse:
        await self._take(request, context)
        for run in self.runs:
            if self.same_run or run.request_id == request.request_id:
                return lead_pb2.CreateRunResponse(run=run)
        run = lead_pb2.Run(
            run_id=f"run-{len(self.runs) + 1}", request_id=request.request_id, title=request.plan.title
        )
        self.runs.append(run)
        return lead_pb2.CreateRunResponse(run=run)

    async def GetRun(self, request: lead_pb2.GetRunRequest, context: Any) -> lead_pb2.GetRunResponse:
        await self._take(request, context)
        return lead_pb2.GetRunResponse(run=self._run(request.run_id))

    async def ListRuns(self, request: lead_pb2.ListRunsRequest, context: Any) -> lead_pb2.ListRunsResponse:
        await self._take(request, context)
        rows, token = _page([run for run in self.runs if request.project in ("", run.project)], request)
        return lead_pb2.ListRunsResponse(runs=rows, next_page_token=token)

    async def ListTasks(self, request: lead_pb2.ListTasksRequest, context: Any) -> lead_pb2.ListTasksResponse:
        await self._take(request, context)
        self._run(request.run_id)
        rows, token = _page([task for task in self.tasks if task.run_id == request.run_id], request)
        return lead_pb2.ListTasksResponse(tasks=rows, next_page_token=token)

    async def ListAttempts(
        self, request: lead_pb2.ListAttemptsRequest, context: Any
    ) -> lead_pb2.ListAttemptsResponse:
        await self._take(request, context)
        self._run(request.run_id)
        rows, token = _page([row for row in self.attempts if row.run_id == request.run_id], request)
        return lead_pb2.ListAttemptsResponse(attempts=rows, next_page_token=token)

    async def ListWorkers(
        self, request: lead_pb2.ListWorkersRequest, context: Any
    ) -> lead_pb2.ListWorkersResponse:
        await self._take(request, context)
        rows, token = _page(self.workers, request)
        return lead_pb2.ListWorkersResponse(workers=rows, next_page_token=token)

    async def CancelRun(self, request: lead_pb2.CancelRunRequest, context: Any) -> lead_pb2.CancelRunResponse:
        await self._take(request, context)
        return lead_pb2.CancelRunResponse(run=self._run(request.run_id))

    async def ListArtifacts(
        self, request: lead_pb2.ListArtifactsRequest, context: Any
    ) -> lead_pb2.ListArtifactsResponse:
        await self._take(request, context)
        found = [
            evidence_pb2.Artifact(name=name, size=len(data), media_type="text/plain")
            for (attempt, name), data in self.artifacts.items()
            if attempt == request.attempt_id
        ]
        return lead_pb2.ListArtifactsResponse(artifacts=found)

    async def ReadArtifact(
        self, request: lead_pb2.ReadArtifactRequest, context: Any
    ) -> AsyncIterator[lead_pb2.ReadArtifactResponse]:
        await self._take(request, context)
        data = self.artifacts.get((request.attempt_id, request.name))
        if data is None:
            raise NotFound("ARTIFACT_NOT_FOUND", "no such artifact")
        for at in range(request.offset, len(data), self.chunk):
            yield lead_pb2.ReadArtifactResponse(data=data[at : at + self.chunk])
            if at > request.offset and self.refusals.get("ReadArtifactResponse"):
                await _refuse(context, self.refusals["ReadArtifactResponse"].popleft())

    async def WatchEvents(
        self, request: status_pb2.WatchEventsRequest, context: Any
    ) -> AsyncIterator[status_pb2.WatchEventsResponse]:
        await self._take(request, context)
        async with self.changed:
            self.watches += 1
            breaks = self.breaks
            self.changed.notify_all()
        try:
            seen = self._start(request)
            if not request.HasField("cursor"):
                for snapshot in self._snapshot(seen):
                    yield snapshot
            while True:
                # Before the news: a run may end while they are written, and then there are more.
                ended = bool(request.run_ids) and self._ended(request.run_ids)
                news = [event for event in self.journal if event.revision > seen]
                if news:
                    seen = news[-1].revision
                    if matching := [event for event in news if _wanted(event, request)]:
                        self.writing += 1
                        yield status_pb2.WatchEventsResponse(events=matching)
                        self.writing -= 1
                if ended:
                    return
                await self._news(seen, breaks)
                if self.breaks > breaks:
                    await _refuse(context, grpc.StatusCode.UNAVAILABLE)
        finally:
            async with self.changed:
                self.watches -= 1
                self.changed.notify_all()

    async def _news(self, seen: int, breaks: int) -> None:
        async with self.changed:
            await self.changed.wait_for(
                lambda: self.breaks > breaks or bool(self.journal and self.journal[-1].revision > seen)
            )

    def _start(self, request: status_pb2.WatchEventsRequest) -> int:
        if not request.HasField("cursor"):
            return self.journal[-1].revision if self.journal else 0
        if not request.cursor:
            return self.oldest
        log, _, revision = request.cursor.partition(".")
        if log != LOG:
            raise OutOfRange("LOG_CHANGED", "another log")
        if int(revision) < self.oldest:
            raise OutOfRange("CURSOR_EXPIRED", "too old")
        return int(revision)

    def _snapshot(self, seen: int) -> Iterator[status_pb2.WatchEventsResponse]:
        yield status_pb2.WatchEventsResponse(runs=self.runs, tasks=self.tasks, workers=self.workers)
        yield status_pb2.WatchEventsResponse(
            bookmark=status_pb2.Bookmark(revision=seen, cursor=f"{LOG}.{seen}", snapshot_end=True)
        )

    def _ended(self, run_ids: Any) -> bool:
        return all(run.end_time.seconds for run in self.runs if run.run_id in run_ids)

    def _run(self, run_id: str) -> lead_pb2.Run:
        for run in self.runs:
            if run.run_id == run_id:
                return run
        raise NotFound("RUN_NOT_FOUND", f"no run {run_id}")

    async def _take(self, request: Message, context: Any) -> None:
        """Note the request; refuse it where the test wants that."""
        self.requests.append(request)
        method = type(request).__name__.removesuffix("Request")
        if self.refusals.get(method):
            await _refuse(context, self.refusals[method].popleft())


def _page(rows: list[Any], request: Any) -> tuple[list[Any], str]:
    start = int(request.page_token or 0)
    end = start + (request.page_size or 100)
    return rows[start:end], str(end) if end < len(rows) else ""


def _wanted(event: status_pb2.JournaledEvent, request: status_pb2.WatchEventsRequest) -> bool:
    return (
        (not request.run_ids or event.event.run_id in request.run_ids)
        and (not request.kinds or event.event.WhichOneof("payload") in request.kinds)
        and request.project in ("", event.event.project)
    )


async def _refuse(context: Any, refusal: Refusal) -> NoReturn:
    if isinstance(refusal, ServiceError):
        raise refusal
    await context.abort(refusal, "made on the way")
    raise AssertionError("abort raises")


@asynccontextmanager
async def serve(lead: CannedLead, port: int = 0) -> AsyncIterator[str]:
    """Serve a canned lead on loopback; gives its address."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),), interceptors=[EdgeInterceptor()])
    lead_pb2_grpc.add_LeadServiceServicer_to_server(lead, server)
    status_pb2_grpc.add_StatusServiceServicer_to_server(lead, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(0)
