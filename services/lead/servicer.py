"""LeadService: proto in, proto out. Reads come from the journal; what changes a run goes to its conductor."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from codeframe.errors import Violation
from codeframe.v1 import lead_pb2, lead_pb2_grpc, state_pb2
from services.lead.creation import check_request, create_run, project_name
from services.lead.fleet import Fleet
from services.lead.integrator import Integrator, NoSuchBase, NotARepository, head_branch
from services.lead.journal import NewRun, RequestIdTaken, RunHead
from services.lead.machine.decide import create
from services.lead.machine.state import Ending, RunState
from services.lead.pricing import priced
from services.lead.reads import Reads
from services.lead.runs import Runs
from services.runtime.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from services.runtime.git import GitError
from services.runtime.prices import Prices, our_prices


def new_run_id() -> str:
    """A run's id: short enough to type."""
    return f"r{secrets.token_hex(4)}"


class LeadServicer(lead_pb2_grpc.LeadServiceServicer):
    """Serves LeadService."""

    def __init__(
        self,
        runs: Runs,
        reads: Reads,
        fleet: Fleet,
        integrator_of: Callable[[str], Integrator],
        prices: Prices | None = None,
        *,
        new_id: Callable[[], str] = new_run_id,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._runs = runs
        self._reads = reads
        self._fleet = fleet
        self._integrator_of = integrator_of
        self._prices = prices or our_prices()
        self._new_id = new_id
        self._clock = clock

    async def CreateRun(self, request: lead_pb2.CreateRunRequest, context: Any) -> lead_pb2.CreateRunResponse:
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        known = await self._reads.requested(project_name(request), request.request_id)
        made: str | RunHead = known or await self._create(request, digest)
        if isinstance(made, RunHead):
            if made.run.digest != digest:
                raise AlreadyExists(
                    "IDEMPOTENCY_KEY_REUSED",
                    f"request_id {request.request_id!r} made run {made.run.run_id} from another request",
                )
            made = made.run.run_id
        return lead_pb2.CreateRunResponse(run=await self._reads.run(made))

    async def _create(self, request: lead_pb2.CreateRunRequest, digest: str) -> str | RunHead:
        """Make the run, or return the one made meanwhile. Nothing is written if anything is wrong."""
        plan = check_request(request)
        integrator = self._integrator_of(request.repository)
        run_id, now = self._new_id(), self._clock()
        try:
            base = await integrator.pin(request.base)
            created = create_run(
                request,
                plan,
                await integrator.tree(base),
                run_id=run_id,
                base=base,
                branch=head_branch(run_id),
                now=now,
            )
            created = priced(created, self._prices, self._fleet.models)
            draft = create(created, now)
            await asyncio.sleep(0)  # it took its time for a large plan: others go first
            new = NewRun(run_id, created.facts.project, request.request_id, digest)
            await self._runs.create(new, draft)
        except NoSuchBase as error:
            violation = Violation("base", str(error))
            raise InvalidArgument("INVALID_BASE", str(error), violations=[violation]) from None
        except (NotARepository, GitError) as error:
            violation = Violation("repository", str(error))
            raise InvalidArgument("INVALID_REPOSITORY", str(error), violations=[violation]) from None
        except RequestIdTaken as taken:
            return taken.run
        return run_id

    async def CancelRun(self, request: lead_pb2.CancelRunRequest, context: Any) -> lead_pb2.CancelRunResponse:
        run = await self._reads.run(request.run_id)
        if run.state in (state_pb2.RUN_STATE_COMPLETED, state_pb2.RUN_STATE_FAILED):
            raise FailedPrecondition("RUN_ENDED", f"run {run.run_id} has ended before")
        message = request.message or "cancelled"
        await self._runs.end(request.run_id, Ending(RunState.CANCELLED, message=message))
        return lead_pb2.CancelRunResponse(run=await self._reads.run(request.run_id))

    async def GetRun(self, request: lead_pb2.GetRunRequest, context: Any) -> lead_pb2.GetRunResponse:
        return lead_pb2.GetRunResponse(run=await self._reads.run(request.run_id))

    async def ListRuns(self, request: lead_pb2.ListRunsRequest, context: Any) -> lead_pb2.ListRunsResponse:
        return await self._reads.list_runs(request)

    async def ListTasks(self, request: lead_pb2.ListTasksRequest, context: Any) -> lead_pb2.ListTasksResponse:
        return await self._reads.list_tasks(request)

    async def ListAttempts(
        self, request: lead_pb2.ListAttemptsRequest, context: Any
    ) -> lead_pb2.ListAttemptsResponse:
        return await self._reads.list_attempts(request)

    async def ListWorkers(
        self, request: lead_pb2.ListWorkersRequest, context: Any
    ) -> lead_pb2.ListWorkersResponse:
        return self._reads.list_workers(request, self._fleet.workers())

    async def ListArtifacts(
        self, request: lead_pb2.ListArtifactsRequest, context: Any
    ) -> lead_pb2.ListArtifactsResponse:
        return await self._reads.list_artifacts(request)

    async def ReadArtifact(
        self, request: lead_pb2.ReadArtifactRequest, context: Any
    ) -> AsyncIterator[lead_pb2.ReadArtifactResponse]:
        async for response in self._reads.read_artifact(request):
            yield response
