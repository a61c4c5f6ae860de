"""Asking a lead: one method an RPC."""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol, Self, TypeVar

import grpc.aio

from codeframe.channel import open_channel
from codeframe.client.retry import RetryPolicy
from codeframe.client.watch import Watch
from codeframe.errors import CodeframeError, from_rpc_error
from codeframe.v1 import (
    budget_pb2,
    evidence_pb2,
    lead_pb2,
    lead_pb2_grpc,
    plan_pb2,
    status_pb2,
    status_pb2_grpc,
)

_Request = TypeVar("_Request", contravariant=True)
_Response = TypeVar("_Response", covariant=True)


class _PageRequest(Protocol):
    page_token: str


class _Page(Protocol):
    next_page_token: str


_AnyPageRequest = TypeVar("_AnyPageRequest", bound=_PageRequest)
_AnyPage = TypeVar("_AnyPage", bound=_Page)
_Row = TypeVar("_Row")


class _Call(Protocol[_Request, _Response]):
    def __call__(self, request: _Request, *, timeout: float) -> Awaitable[_Response]: ...


class Client:
    """A lead at `host:port`, for as long as the `async with` lasts.

        async with Client("127.0.0.1:50051") as client:
            run = await client.create_run(plan, "/path/of/repository")

    Every call is asked again, as its RPC's comment allows, until `timeout` seconds are over.
    Every method raises CodeframeError, whose `reason` is an ErrorReason's full name where the
    lead itself answered. Close watches before the client.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 30.0,
        policy: RetryPolicy | None = None,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.address = address
        self._timeout = timeout
        self._policy = policy or RetryPolicy()
        self._new_id = new_id
        self._chance = chance

    async def __aenter__(self) -> Self:
        self._channel = open_channel(self.address)
        self._lead = lead_pb2_grpc.LeadServiceStub(self._channel)
        self._status = status_pb2_grpc.StatusServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def create_run(
        self,
        work: plan_pb2.Plan | str,
        repository: str,
        *,
        project: str = "",
        base: str = "",
        limits: lead_pb2.RunLimits | None = None,
        budget: budget_pb2.Budget | None = None,
        labels: Mapping[str, str] | None = None,
        unserved_role: lead_pb2.UnservedRolePolicy.ValueType = lead_pb2.UNSERVED_ROLE_POLICY_UNSPECIFIED,
        request_id: str = "",
    ) -> lead_pb2.Run:
        """Start a run of a plan, or of a goal in the user's words.

        It is asked for under one `request_id`, made here where none is given.
        """
        request = lead_pb2.CreateRunRequest(
            request_id=request_id or self._new_id(),
            project=project,
            repository=repository,
            base=base,
            limits=limits,
            budget=budget,
            labels=labels or {},
            unserved_role=unserved_role,
        )
        if isinstance(work, str):
            request.goal = work
        else:
            request.plan.CopyFrom(work)
        return (await self._ask(self._lead.CreateRun, request)).run

    async def get_run(self, run_id: str) -> lead_pb2.Run:
        """A run with its counts."""
        return (await self._ask(self._lead.GetRun, lead_pb2.GetRunRequest(run_id=run_id))).run

    async def cancel_run(self, run_id: str, message: str = "") -> lead_pb2.Run:
        """Ask a run to end; returns once the wish is durable, not once the run has ended."""
        request = lead_pb2.CancelRunRequest(run_id=run_id, message=message)
        return (await self._ask(self._lead.CancelRun, request)).run

    async def list_runs(self, request: lead_pb2.ListRunsRequest) -> lead_pb2.ListRunsResponse:
        """One page of runs, newest first."""
        return await self._ask(self._lead.ListRuns, request)

    async def list_tasks(self, request: lead_pb2.ListTasksRequest) -> lead_pb2.ListTasksResponse:
        """One page of a run's tasks, in plan order."""
        return await self._ask(self._lead.ListTasks, request)

    async def list_attempts(self, request: lead_pb2.ListAttemptsRequest) -> lead_pb2.ListAttemptsResponse:
        """One page of attempts, oldest first."""
        return await self._ask(self._lead.ListAttempts, request)

    async def list_workers(self, request: lead_pb2.ListWorkersRequest) -> lead_pb2.ListWorkersResponse:
        """One page of the workers that the lead knows, by address."""
        return await self._ask(self._lead.ListWorkers, request)

    def runs(self, project: str = "") -> AsyncIterator[lead_pb2.Run]:
        """All runs, newest first."""
        return _rows(self.list_runs, lead_pb2.ListRunsRequest(project=project), lambda page: page.runs)

    def tasks(self, run_id: str) -> AsyncIterator[lead_pb2.Task]:
        """All of a run's tasks, in plan order."""
        return _rows(self.list_tasks, lead_pb2.ListTasksRequest(run_id=run_id), lambda page: page.tasks)

    def attempts(self, run_id: str, task_id: str = "") -> AsyncIterator[lead_pb2.Attempt]:
        """All attempts of a run, or of one of its tasks, oldest first."""
        request = lead_pb2.ListAttemptsRequest(run_id=run_id, task_id=task_id)
        return _rows(self.list_attempts, request, lambda page: page.attempts)

    def workers(self) -> AsyncIterator[lead_pb2.Worker]:
        """All workers that the lead knows, by address."""
        return _rows(self.list_workers, lead_pb2.ListWorkersRequest(), lambda page: page.workers)

    async def list_artifacts(self, attempt_id: str) -> list[evidence_pb2.Artifact]:
        """The artifacts of an attempt that has ended, by name."""
        request = lead_pb2.ListArtifactsRequest(attempt_id=attempt_id)
        return list((await self._ask(self._lead.ListArtifacts, request)).artifacts)

    async def read_artifact(self, attempt_id: str, name: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """An artifact's bytes from an offset to the end, in chunks of at most 256 KiB.

        A connection that drops is made again, from the offset read so far; `timeout` bounds the
        wait for each chunk.
        """
        failures, deadline = 0, self._now() + self._timeout
        while True:
            request = lead_pb2.ReadArtifactRequest(attempt_id=attempt_id, name=name, offset=offset)
            call = self._lead.ReadArtifact(request, timeout=self._timeout)
            try:
                async for response in call:
                    offset += len(response.data)
                    yield response.data
                    failures, deadline = 0, self._now() + self._timeout
                return
            except grpc.aio.AioRpcError as error:
                failures += 1
                await self._wait(from_rpc_error(error), failures, deadline)
            finally:
                call.cancel()

    def watch(
        self,
        *,
        project: str = "",
        run_ids: Iterable[str] = (),
        task_ids: Iterable[str] = (),
        kinds: Iterable[str] = (),
        cursor: str | None = None,
    ) -> Watch:
        """Follow events: from a snapshot, or after a cursor where one is given ("": from the oldest).

        `kinds` are payload names such as "task_status_changed". Nothing is asked before the
        first item is awaited.
        """
        request = status_pb2.WatchEventsRequest(
            project=project, run_ids=run_ids, task_ids=task_ids, kinds=kinds
        )
        if cursor is not None:
            request.cursor = cursor
        return Watch(self._status, request, self._policy, self._chance)

    async def _ask(self, call: _Call[_Request, _Response], request: _Request) -> _Response:
        deadline = self._now() + self._timeout
        failures = 0
        while True:
            try:
                return await call(request, timeout=deadline - self._now())
            except grpc.aio.AioRpcError as error:
                failures += 1
                await self._wait(from_rpc_error(error), failures, deadline)

    async def _wait(self, error: CodeframeError, failures: int, deadline: float) -> None:
        """Wait until the call may be repeated, or raise the error where it may not be in time."""
        delay = self._policy.delay(error, failures, self._chance())
        if delay is None or self._now() + delay >= deadline:
            raise error
        await asyncio.sleep(delay)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _rows(
    ask: Callable[[_AnyPageRequest], Awaitable[_AnyPage]],
    request: _AnyPageRequest,
    rows: Callable[[_AnyPage], Iterable[_Row]],
) -> AsyncIterator[_Row]:
    """The rows of every page, each page asked for as it is reached."""
    while True:
        page = await ask(request)
        for row in rows(page):
            yield row
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
