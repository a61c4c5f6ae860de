"""The reads of LeadService, from the journal's rows and the artifacts' files."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from codeframe.internal.v1 import rows_pb2
from codeframe.v1 import lead_pb2
from services.lead.artifacts import ArtifactStore
from services.lead.journal import Journal, RowKind, RunHead, RunUnknown, StoredRow
from services.lead.page_token import ordinal_of, page_token, place_of
from services.lead.refusals import refusing
from services.runtime.errors import NotFound

_PAGE = 100
_ATTEMPTS_PAGE = 20


def public_run(stored: StoredRow) -> lead_pb2.Run:
    """A run as the API shows it, with its row's revision."""
    run = rows_pb2.RunRow.FromString(stored.row.body).public
    run.revision = stored.revision
    return run


def public_task(stored: StoredRow) -> lead_pb2.Task:
    """A task as the API shows it, with its row's revision."""
    task = rows_pb2.TaskRow.FromString(stored.row.body).public
    task.revision = stored.revision
    return task


def public_attempt(stored: StoredRow) -> lead_pb2.Attempt | None:
    """An attempt as the API shows it, with its row's revision; None while it is bound nowhere."""
    row = rows_pb2.AttemptRow.FromString(stored.row.body)
    if not row.HasField("public"):
        return None
    row.public.revision = stored.revision
    return row.public


class Reads:
    """Answers what is asked about runs, tasks, attempts, workers and artifacts.

    Every method may raise ServiceError: NotFound for what does not exist, InvalidArgument for a page token
    of another request, Unavailable while the lead stops.
    """

    def __init__(self, journal: Journal, artifacts: ArtifactStore) -> None:
        self._journal = journal
        self._artifacts = artifacts

    async def requested(self, project: str, request_id: str) -> RunHead | None:
        """The run that was made in a project under a request_id."""
        with refusing():
            return await self._journal.requested(project, request_id)

    async def run(self, run_id: str) -> lead_pb2.Run:
        """A run with its counts."""
        with refusing():
            stored = await self._journal.row(run_id, RowKind.RUN, run_id)
            if stored is None:
                raise RunUnknown(run_id)
        return public_run(stored)

    async def list_runs(self, request: lead_pb2.ListRunsRequest) -> lead_pb2.ListRunsResponse:
        """Runs, newest first."""
        asked = ("runs", request.project)
        before = ordinal_of(request.page_token, *asked)
        with refusing():
            page = await self._journal.runs(request.project, before, request.page_size or _PAGE)
        response = lead_pb2.ListRunsResponse(runs=map(public_run, page.rows))
        if page.more:
            response.next_page_token = page_token(str(page.rows[-1].row.ordinal), *asked)
        return response

    async def list_tasks(self, request: lead_pb2.ListTasksRequest) -> lead_pb2.ListTasksResponse:
        """A run's tasks, in plan order."""
        asked = ("tasks", request.run_id)
        after = ordinal_of(request.page_token, *asked)
        with refusing():
            page = await self._journal.rows(
                request.run_id, RowKind.TASK, after=after, limit=request.page_size or _PAGE
            )
        response = lead_pb2.ListTasksResponse(tasks=map(public_task, page.rows))
        if page.more:
            response.next_page_token = page_token(str(page.rows[-1].row.ordinal), *asked)
        return response

    async def list_attempts(self, request: lead_pb2.ListAttemptsRequest) -> lead_pb2.ListAttemptsResponse:
        """The attempts of a run or of one of its tasks, oldest first."""
        asked = ("attempts", request.run_id, request.task_id)
        after = ordinal_of(request.page_token, *asked)
        with refusing():
            page = await self._journal.rows(
                request.run_id,
                RowKind.ATTEMPT,
                request.task_id,
                after,
                request.page_size or _ATTEMPTS_PAGE,
            )
            if request.task_id and not await self._journal.row(request.run_id, RowKind.TASK, request.task_id):
                raise NotFound("TASK_NOT_FOUND", f"run {request.run_id} has no task {request.task_id}")
        attempts = [attempt for attempt in map(public_attempt, page.rows) if attempt]
        response = lead_pb2.ListAttemptsResponse(attempts=attempts)
        if page.more:
            response.next_page_token = page_token(str(page.rows[-1].row.ordinal), *asked)
        return response

    def list_workers(
        self, request: lead_pb2.ListWorkersRequest, workers: Sequence[lead_pb2.Worker]
    ) -> lead_pb2.ListWorkersResponse:
        """Some of the workers, by address."""
        after = place_of(request.page_token, "workers")
        rest = sorted((each for each in workers if each.address > after), key=lambda each: each.address)
        size = request.page_size or _PAGE
        response = lead_pb2.ListWorkersResponse(workers=rest[:size])
        if len(rest) > size:
            response.next_page_token = page_token(rest[size - 1].address, "workers")
        return response

    async def list_artifacts(self, request: lead_pb2.ListArtifactsRequest) -> lead_pb2.ListArtifactsResponse:
        """What the lead holds of an attempt, by name; nothing before it has ended."""
        attempt = await self._attempt(request.attempt_id)
        held = [
            each for each in attempt.result.artifacts if self._artifacts.held(attempt.attempt_id, each.name)
        ]
        return lead_pb2.ListArtifactsResponse(artifacts=sorted(held, key=lambda each: each.name))

    async def read_artifact(
        self, request: lead_pb2.ReadArtifactRequest
    ) -> AsyncGenerator[lead_pb2.ReadArtifactResponse, None]:
        """An artifact's bytes, in chunks, from an offset to the end."""
        attempt = await self._attempt(request.attempt_id)
        if request.name not in (each.name for each in attempt.result.artifacts):
            raise self._no_artifact(request)
        async with aclosing(self._artifacts.read(request.attempt_id, request.name, request.offset)) as chunks:
            try:
                async for chunk in chunks:
                    yield lead_pb2.ReadArtifactResponse(data=chunk)
            except FileNotFoundError:
                raise self._no_artifact(request) from None

    async def _attempt(self, attempt_id: str) -> lead_pb2.Attempt:
        with refusing():
            stored = await self._journal.attempt(attempt_id)
        attempt = public_attempt(stored) if stored else None
        if attempt is None:
            raise NotFound("ATTEMPT_NOT_FOUND", f"there is no attempt {attempt_id}")
        return attempt

    def _no_artifact(self, request: lead_pb2.ReadArtifactRequest) -> NotFound:
        message = f"attempt {request.attempt_id} has no artifact {request.name}"
        return NotFound("ARTIFACT_NOT_FOUND", message)
