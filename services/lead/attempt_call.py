"""One open attempt, from the lead's side: its ExecuteTask awaited, its notices read, its result accepted.

Every repeat goes to the address that the attempt is bound to, byte for byte. A status with
our ErrorInfo is the worker's word; any other says nothing, and is asked again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc
import grpc.aio
import structlog

from codeframe.errors import from_rpc_error
from codeframe.v1 import evidence_pb2, state_pb2, worker_pb2
from services.lead.acceptance import MESSAGE_LIMIT, TRIES, Acceptance, Unusable
from services.lead.artifacts import ArtifactStore
from services.lead.fleet import Fleet
from services.lead.integrator import Integrator, attempt_branch
from services.lead.machine.attempt import Attempt, AttemptKind
from services.lead.machine.events import Noticed
from services.lead.machine.happenings import Answered, Ended, NotStarted
from services.lead.machine.outcome import Outcome
from services.lead.public import notice, usage_from_proto
from services.lead.silence import Lost, Patience, Silence

log = structlog.get_logger()

EXECUTE = "/codeframe.v1.WorkerService/ExecuteTask"

NOT_STARTED = frozenset({"NO_FREE_SLOT", "DRAINING", "UNKNOWN_ROLE", "NO_MODEL_KEY", "NO_SANDBOX"})
"""Reasons that say the attempt did not start: it may be bound elsewhere."""

HOPELESS = frozenset({"ATTEMPT_ID_REUSED", "INVALID_REQUEST"})
"""Reasons for which asking again is no use."""


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
        self._journal_notices = journal_notices
        self._patience = patience
        self._journaled = attempt.last_sequence
        self._taken = attempt.started
        address = attempt.binding.address
        self._silence = Silence(address, patience)
        self._acceptance = Acceptance(
            attempt.id, run_id, fleet.stub(address), self._silence, integrator, artifacts
        )
        self._progress = asyncio.Condition()

    async def follow(self) -> Ended | NotStarted:
        """Await the attempt's end, with every notice journaled and every artifact held.

        A refusal to start is NotStarted; a worker that is gone, or was started anew, is LOST.
        Raises GitError while its repository cannot be reached, ArtifactError while an artifact
        cannot be stored: ask again.
        """
        lost: Lost | None = None
        unusable = ""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                answer = await self._execute()
                if isinstance(answer, evidence_pb2.TaskResult):
                    await self._read_up_to(answer.last_sequence)
                watching.cancel()
            return answer if isinstance(answer, NotStarted) else await self._acceptance.accept(answer)
        except* Lost as losses:
            lost = _first(losses)
        except* Unusable as faults:
            unusable = str(_first(faults))
        if lost is not None:
            return await self._lost(lost)
        return await self._give_up(unusable)

    async def _execute(self) -> evidence_pb2.TaskResult | NotStarted:
        call: Any = self._fleet.channel(self._attempt.binding.address).unary_unary(
            EXECUTE, response_deserializer=worker_pb2.ExecuteTaskResponse.FromString
        )
        failures, odd = 0, 0
        while True:
            asked = self._silence.now()
            try:
                response: worker_pb2.ExecuteTaskResponse = await call(
                    self._attempt.request, timeout=self._patience.deadline
                )
                return response.result
            except grpc.aio.AioRpcError as caught:
                error = from_rpc_error(caught)
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and not error.reason:
                failures = 0
                continue
            reason = error.reason.removeprefix("ERROR_REASON_")
            if reason in NOT_STARTED and not self._taken:
                return NotStarted(self._attempt.id, f"{reason}: {error.message}", datetime.now(UTC))
            odd += bool(reason)
            if reason in HOPELESS or odd == TRIES:
                raise Unusable(f"the worker refuses the attempt: {reason}: {error}")
            await self._silence.wait(error, asked, failures)
            failures += 1

    async def _watch(self) -> None:
        """Journal the attempt's notices, from the last one journaled, for as long as it is followed."""
        failures = 0
        while True:
            asked = self._silence.now()
            try:
                await self._watch_once()
                failures = 0
                await asyncio.sleep(self._patience.shortest_pause)
            except grpc.aio.AioRpcError as caught:
                error = from_rpc_error(caught)
                if error.reason == "ERROR_REASON_ATTEMPT_RELEASED":
                    raise Lost(f"its notices are gone: {error.message}") from None
                await self._silence.wait(error, asked, failures)
                failures += 1

    async def _watch_once(self) -> None:
        binding = self._attempt.binding
        request = worker_pb2.WatchAttemptRequest(
            attempt_id=self._attempt.id, incarnation=binding.incarnation, after_sequence=self._journaled
        )
        call = self._fleet.stub(binding.address).WatchAttempt(request)
        try:
            async for response in call:
                self._silence.broken()
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
        self._fleet.providers.paused(response.provider_pauses)
        if any(each.usage and not each.usage.incomplete for each in new):
            self._fleet.providers.served(self._attempt.id)
        idle = response.idle.ToTimedelta().total_seconds()
        if idle > self._patience.stall:
            log.warning("an attempt's loop stalled", idle=idle)
            await self.cancel(worker_pb2.CANCEL_REASON_STALLED)

    def _notice(self, told: worker_pb2.Notice) -> Noticed:
        kind = told.WhichOneof("payload")
        if not kind:
            raise Unusable(f"notice {told.sequence} is of a kind that this lead does not know")
        state = told.task_status_changed.status
        if kind == "task_status_changed" and state != state_pb2.TASK_STATE_IN_PROGRESS:
            raise Unusable(f"notice {told.sequence} tells a state that is the lead's to tell")
        return notice(kind, getattr(told, kind), self._attempt.id, told.sequence, told.notice_time)

    async def _read_up_to(self, sequence: int) -> None:
        """Return once every notice up to a sequence is journaled: the watch reads them."""
        async with self._progress:
            await self._progress.wait_for(lambda: self._journaled >= sequence)

    async def cancel(
        self, reason: worker_pb2.CancelReason.ValueType
    ) -> worker_pb2.CancelAttemptResponse | None:
        """Have the worker end the attempt, asking until it answers; None where it is another incarnation."""
        binding = self._attempt.binding
        request = worker_pb2.CancelAttemptRequest(
            attempt_id=self._attempt.id, incarnation=binding.incarnation, reason=reason
        )
        failures = 0
        while True:
            try:
                stub = self._fleet.stub(binding.address)
                return await stub.CancelAttempt(request, timeout=self._patience.deadline)
            except grpc.aio.AioRpcError as caught:
                if from_rpc_error(caught).reason == "ERROR_REASON_WORKER_RESTARTED":
                    return None
            await asyncio.sleep(self._patience.pause(failures))
            failures += 1

    async def ask_lost(self) -> Answered:
        """End an attempt that was taken to be lost, should its worker live, and learn what it took."""
        answer = await self.cancel(worker_pb2.CANCEL_REASON_CANCELLED)
        attempt_id, now = self._attempt.id, datetime.now(UTC)
        if answer is None:
            return Answered(attempt_id, now, is_dead=True)
        if not answer.HasField("result"):
            return Answered(attempt_id, now, is_known=False)
        usage = tuple(usage_from_proto(each) for each in answer.result.usage)
        return Answered(attempt_id, now, usage, answer.result.wall_time.ToTimedelta())

    async def _lost(self, loss: Lost) -> Ended:
        """LOST goes on from the tip that its worker pushed, where there is one. Raises GitError."""
        attempt = self._attempt
        commit = ""
        if attempt.kind is AttemptKind.TASK:
            branch = attempt_branch(self._run_id, attempt.task_id, attempt.number)
            commit = await self._integrator.tip(branch)
        return Ended(
            attempt.id,
            Outcome.LOST,
            str(loss),
            datetime.now(UTC),
            commit=commit,
            base=attempt.base,
            is_dead=loss.is_dead,
        )

    async def _give_up(self, message: str) -> Ended:
        """INTERNAL, with the attempt cancelled at its worker where that answers in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience.silence):
                await self.cancel(worker_pb2.CANCEL_REASON_CANCELLED)
        return Ended(self._attempt.id, Outcome.INTERNAL, message[:MESSAGE_LIMIT], datetime.now(UTC))


E = TypeVar("E", bound=Exception)


def _first(group: BaseExceptionGroup[E]) -> E:
    """The first exception of a group."""
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
