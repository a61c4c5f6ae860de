"""Does what the machine wants done, one command at a call, and says what it found."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from codeframe.v1 import worker_pb2
from services.lead.adoption import PLAN, PlanRefused, adopted
from services.lead.attempt_call import AttemptCall
from services.lead.integrator import Integrator, Waiting, attempt_branch, candidate_branch
from services.lead.machine.attempt import Attempt, AttemptKind
from services.lead.machine.events import Noticed
from services.lead.machine.happenings import (
    ClockRead,
    Ended,
    Happening,
    HeadPushed,
    Notices,
    NotStarted,
    Planned,
    Stacked,
)
from services.lead.machine.outcome import Outcome
from services.lead.machine.run import Run
from services.lead.machine.state import Integrating
from services.lead.machine.task import OwnCommit
from services.lead.machine.wanted import (
    AskLost,
    CancelAttempt,
    Command,
    Follow,
    PushHead,
    StackCandidate,
    WakeAt,
)
from services.lead.stage import Stage

log = structlog.get_logger()


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Found:
    """How a command ended, and what is to be cleared up once that is journaled."""

    happening: Happening
    clear_up: Callable[[], Awaitable[None]] = _nothing


class Performer:
    """Does the commands of a run. `tell` returns once what is told is in the journal."""

    def __init__(
        self, stage: Stage, integrator: Integrator, tell: Callable[[Happening], Awaitable[None]]
    ) -> None:
        self._stage = stage
        self._integrator = integrator
        self._tell = tell

    async def perform(self, run: Run, command: Command) -> Found | None:
        """Do a command, however long it takes; what it found, where there is something to tell.

        It may be cancelled, and done again: each is idempotent.
        """
        match command:
            case Follow():
                return await self._follow(run, run.attempts[command.attempt_id])
            case CancelAttempt():
                call = self._call(run, run.attempts[command.attempt_id])
                await call.cancel(worker_pb2.CANCEL_REASON_CANCELLED)
                return None  # its Follow tells how it ended
            case AskLost():
                return Found(await self._call(run, run.attempts[command.attempt_id]).ask_lost())
            case StackCandidate():
                return Found(await self._stack(run, command))
            case PushHead():
                return await self._push(run, command.integrating)
            case WakeAt():
                delay = (command.time - self._stage.clock()).total_seconds()
                await asyncio.sleep(max(0.0, delay))
                return Found(ClockRead(max(self._stage.clock(), command.time)))

    def _call(self, run: Run, attempt: Attempt) -> AttemptCall:
        async def journal_notices(notices: tuple[Noticed, ...]) -> None:
            await self._tell(Notices(attempt.id, notices, self._stage.clock()))

        return AttemptCall(
            attempt,
            run.facts.run_id,
            self._stage.fleet,
            self._integrator,
            self._stage.artifacts,
            journal_notices,
            self._stage.patience,
        )

    async def _follow(self, run: Run, attempt: Attempt) -> Found:
        fleet, address = self._stage.fleet, attempt.binding.address
        with structlog.contextvars.bound_contextvars(task=attempt.task_id, attempt=attempt.id):
            told = await self._call(run, attempt).follow()
            # The slot is freed before this is told: the next placement sees it, or spares who refused.
            if isinstance(told, NotStarted):
                log.info("an attempt was refused", worker=address, why=told.message)
                fleet.release(attempt.id, address, refused=True)
                return Found(told)
            log.info("an attempt has ended", outcome=told.outcome.value, message=told.message[:200])
            if attempt.kind is AttemptKind.PLAN and told.outcome is Outcome.SUCCEEDED:
                happening = await self._planned(run, told)
            else:
                happening = told
            unavailable = told.outcome is Outcome.PROVIDER_UNAVAILABLE
            fleet.release(attempt.id, address, unavailable=unavailable)
            return Found(happening, lambda: fleet.let_go(attempt.id, address))

    async def _planned(self, run: Run, told: Ended) -> Planned | Ended:
        """What a plan makes of the run; or the attempt's end, where the plan cannot be run."""
        data = await self._stage.artifacts.read_whole(told.attempt_id, PLAN)
        tree = await self._integrator.tree(run.facts.base)
        try:
            return adopted(told, data, tree, self._stage.fleet.roles)
        except PlanRefused as refused:
            log.warning("a plan is refused", why=str(refused))
            return replace(told, outcome=Outcome.VERIFICATION_FAILED, message=str(refused))

    async def _stack(self, run: Run, command: StackCandidate) -> Stacked:
        run_id = run.facts.run_id
        waiting = [
            Waiting(task_id, own, own_branch(run, task_id, own), run.tasks[task_id].spec.title)
            for task_id, own in command.commits
        ]
        stack = await self._integrator.stack(run_id, command.number, command.onto, waiting)
        return Stacked(
            command.number,
            command.onto,
            stack.commit,
            stack.tree,
            stack.tasks,
            stack.conflicts,
            self._stage.clock(),
        )

    async def _push(self, run: Run, integrating: Integrating) -> Found:
        run_id = run.facts.run_id
        tasks = (run.tasks[task_id] for task_id in integrating.tasks)
        merged = [own_branch(run, task.id, task.own) for task in tasks if task.own]
        merged.append(candidate_branch(run_id, run.core.candidates))
        moved = await self._integrator.move_head(run_id, integrating.start, integrating.to)
        if moved:
            # Before it is told: a crash in between only has it done again, and no stop can come after it.
            await self._integrator.delete(merged)
        return Found(HeadPushed(moved, self._stage.clock()))


def own_branch(run: Run, task_id: str, own: OwnCommit) -> str:
    """The branch that a task's own commit was pushed to."""
    return attempt_branch(run.facts.run_id, task_id, run.attempts[own.attempt_id].number)
