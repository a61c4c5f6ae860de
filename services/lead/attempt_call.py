"""One open attempt, from the lead's side: its ExecuteTask awaited, its notices read, its artifacts copied.

Every repeat goes to the address that the attempt is bound to, byte for byte. A status with
our ErrorInfo is the worker's word; any other says nothing, and is asked again (DESIGN §5).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
import structlog

from codeframe.errors import CodeframeError, from_rpc_error
from codeframe.v1 import evidence_pb2, worker_pb2
from services.lead.artifacts import ArtifactStore
from services.lead.fleet import Fleet
from services.lead.integrator import Integrator, attempt_branch
from services.lead.machine.events import ArtifactHeld, Noticed
from services.lead.machine.happenings import Ended, NotStarted
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import Attempt, AttemptKind
from services.lead.public import notice, outcome_from_proto
from services.runtime.git import GitError

log = structlog.get_logger()

EXECUTE = "/codeframe.v1.WorkerService/ExecuteTask"
MESSAGE_LIMIT = 16_000

NOT_STARTED = frozenset({"NO_FREE_SLOT", "DRAINING", "UNKNOWN_ROLE", "NO_MODEL_KEY", "NO_SANDBOX"})
"""Reasons that say the attempt did not start: it may be bound elsewhere."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker may be silent, and how often it is asked; all in seconds."""

    silence: float = 30.0
    deadline: float = 300.0
    shortest_pause: float = 0.1
    longest_pause: float = 2.0
    stall: float = 900.0


class Lost(Exception):
    """The attempt died with its worker."""


class AttemptCall:
    """Follows one attempt to its end.

    `journal_notices` returns once the notices are in the journal. Cancelling the call
    cancels nothing at the worker.
    """

    def __init__(
        self,
        attempt: Attempt,
        run_id: str,
        fleet: Fleet,
        integrator: Integrator,
        artifacts: ArtifactStore,
        journal_notices: Callable[[tuple[Noticed, ...]], Awaitable[None]],
        patience: Patience,
    ) -> None:
        self._attempt = attempt
        self._run_id = run_id
        self._fleet = fleet
        self._integrator = integrator
        self._artifacts = artifacts
        self._journal_notices = journal_notices
        self._patience = patience
        self._journaled = attempt.last_sequence
        self._heard = asyncio.get_running_loop().time()
        self._progress = asyncio.Condition()
        self._taken = attempt.started

    async def follow(self) -> Ended | NotStarted:
        """Await the attempt's end, with every notice journaled and every artifact held.

        A refusal to start is NotStarted; a worker that is gone, or was started anew, is LOST.
        """
        lost = ""
        result: evidence_pb2.TaskResult | NotStarted | None = None
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                result = await self._execute()
                if isinstance(result, evidence_pb2.TaskResult):
                    await self._read_up_to(result.last_sequence)
                watching.cancel()
            if isinstance(result, evidence_pb2.TaskResult):
                return await self._ended(result)
        except* Lost as losses:
            lost = str(losses.exceptions[0])
        return result if isinstance(result, NotStarted) else await self._lost(lost)

    async def _execute(self) -> evidence_pb2.TaskResult | NotStarted:
        call: Any = self._fleet.channel(self._attempt.binding.address).unary_unary(
            EXECUTE, response_deserializer=worker_pb2.ExecuteTaskResponse.FromString
        )
        failures = 0
        while True:
            try:
                response: worker_pb2.ExecuteTaskResponse = await call(
                    self._attempt.request, timeout=self._patience.deadline
                )
                return response.result
            except grpc.aio.AioRpcError as caught:
                error = from_rpc_error(caught)
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                failures = 0
                continue
            reason = error.reason.removeprefix("ERROR_REASON_")
            if reason in NOT_STARTED and not self._taken:
                return NotStarted(self._attempt.id, f"{reason}: {error.message}", datetime.now(UTC))
            if reason == "WORKER_RESTARTED":
                raise Lost(error.message)
            if reason in ("ATTEMPT_ID_REUSED", "INVALID_REQUEST"):
                return evidence_pb2.TaskResult(
                    attempt_id=self._attempt.id, outcome=evidence_pb2.OUTCOME_INTERNAL, message=str(error)
                )
            await self._pause(error, failures)
            failures += 1

    async def _pause(self, error: CodeframeError, failures: int) -> None:
        """Wait before asking again. Raises Lost after the silence, once one more try has failed."""
        now = asyncio.get_running_loop().time()
        if error.reason:
            self._heard = now
        elif now - self._heard > self._patience.silence and failures:
            address, silence = self._attempt.binding.address, self._patience.silence
            raise Lost(f"{address} was silent for {silence:g} s: {error.message}")
        patience = self._patience
        await asyncio.sleep(min(patience.shortest_pause * 2 ** min(failures, 20), patience.longest_pause))

    async def _watch(self) -> None:
        """Journal the attempt's notices, from the last one journaled, for as long as it is followed."""
        failures = 0
        while True:
            try:
                await self._watch_once()
                failures = 0
                await asyncio.sleep(self._patience.shortest_pause)
            except grpc.aio.AioRpcError as caught:
                error = from_rpc_error(caught)
                if error.reason == "ERROR_REASON_WORKER_RESTARTED":
                    raise Lost(error.message) from None
                await self._pause(error, failures)
                failures += 1

    async def _watch_once(self) -> None:
        binding = self._attempt.binding
        request = worker_pb2.WatchAttemptRequest(
            attempt_id=self._attempt.id, incarnation=binding.incarnation, after_sequence=self._journaled
        )
        call = self._fleet.stub(binding.address).WatchAttempt(request)
        try:
            async for response in call:
                self._heard = asyncio.get_running_loop().time()
                await self._take(response)
        finally:
            call.cancel()

    async def _take(self, response: worker_pb2.WatchAttemptResponse) -> None:
        new = tuple(self._notice(each) for each in response.notices if each.sequence > self._journaled)
        if new or not self._taken:
            await self._journal_notices(new)
            self._taken = True
        if new:
            async with self._progress:
                self._journaled = new[-1].sequence
                self._progress.notify_all()
        if response.idle.ToTimedelta().total_seconds() > self._patience.stall:
            log.warning("an attempt's loop stalled", idle=response.idle.seconds)
            await self.cancel(worker_pb2.CANCEL_REASON_STALLED)

    def _notice(self, told: worker_pb2.Notice) -> Noticed:
        kind = told.WhichOneof("payload") or ""
        return notice(kind, getattr(told, kind), self._attempt.id, told.sequence, told.notice_time)

    async def _read_up_to(self, sequence: int) -> None:
        """Return once every notice up to a sequence is journaled: the watch reads them."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._journaled >= sequence)

    async def cancel(self, reason: worker_pb2.CancelReason.ValueType) -> None:
        """Have the worker end the attempt, asking until it answers or is another incarnation."""
        binding = self._attempt.binding
        request = worker_pb2.CancelAttemptRequest(
            attempt_id=self._attempt.id, incarnation=binding.incarnation, reason=reason
        )
        failures = 0
        while True:
            try:
                await self._fleet.stub(binding.address).CancelAttempt(
                    request, timeout=self._patience.deadline
                )
                return
            except grpc.aio.AioRpcError as caught:
                error = from_rpc_error(caught)
                if error.reason == "ERROR_REASON_WORKER_RESTARTED":
                    return
                await asyncio.sleep(
                    min(self._patience.shortest_pause * 2 ** min(failures, 20), self._patience.longest_pause)
                )
                failures += 1

    async def release(self) -> None:
        """Tell the worker that everything is held here; asked until it answers, or silence."""
        request = worker_pb2.ReleaseAttemptRequest(attempt_id=self._attempt.id)
        for failures in range(5):
            try:
                await self._fleet.stub(self._attempt.binding.address).ReleaseAttempt(request, timeout=5)
                return
            except grpc.aio.AioRpcError as error:
                log.debug("not released yet", attempt=self._attempt.id, problem=error.code().name)
                await asyncio.sleep(self._patience.shortest_pause * 2**failures)

    async def _ended(self, result: evidence_pb2.TaskResult) -> Ended:
        held = [await self._copy(artifact) for artifact in result.artifacts]
        tree = ""
        if result.commit:
            tree = await self._integrator.tree_of(result.commit, result.branch)
        return Ended(
            attempt_id=self._attempt.id,
            outcome=outcome_from_proto(result.outcome),
            message=result.message[:MESSAGE_LIMIT],
            time=datetime.now(UTC),
            result=result.SerializeToString(),
            commit=result.commit,
            base=result.base_commit,
            tree=tree,
            commit_subject=result.commit_subject,
            files=tuple(change.path for change in result.files[:100]),
            file_count=len(result.files),
            corrections=result.corrections,
            artifacts=tuple(held),
        )

    async def _copy(self, artifact: evidence_pb2.Artifact) -> ArtifactHeld:
        """Copy an artifact, asking again until its bytes are whole. Raises Lost where it is gone."""
        held = ArtifactHeld(
            artifact.name, artifact.media_type, artifact.size, artifact.sha256, artifact.truncated
        )
        failures = 0
        while True:
            try:
                await self._artifacts.write(self._run_id, self._attempt.id, held, self._read(artifact.name))
                return held
            except grpc.aio.AioRpcError as caught:
                error = from_rpc_error(caught)
                if error.reason:
                    raise Lost(f"{artifact.name} cannot be read: {error.message}") from None
                await self._pause(error, failures)
                failures += 1

    async def _read(self, name: str) -> AsyncIterator[bytes]:
        stub = self._fleet.stub(self._attempt.binding.address)
        call = stub.ReadArtifact(
            worker_pb2.WorkerServiceReadArtifactRequest(attempt_id=self._attempt.id, name=name)
        )
        try:
            async for response in call:
                self._heard = asyncio.get_running_loop().time()
                yield response.data
        finally:
            call.cancel()

    async def _lost(self, message: str) -> Ended:
        """LOST goes on from the tip that its worker pushed, where there is one."""
        attempt = self._attempt
        commit = ""
        if attempt.kind is AttemptKind.TASK:
            try:
                commit = await self._integrator.tip(
                    attempt_branch(self._run_id, attempt.task_id, attempt.number)
                )
            except GitError as error:
                log.warning("the tip of a lost attempt cannot be read", error=str(error))
        return Ended(attempt.id, Outcome.LOST, message, datetime.now(UTC), commit=commit, base=attempt.base)
