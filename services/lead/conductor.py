"""LeadAgent conducts one run: it keeps the wanted commands going, and journals what they find."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from codeframe.v1 import worker_pb2
from services.lead import records
from services.lead.artifacts import ArtifactStore
from services.lead.attempt_call import AttemptCall, Patience
from services.lead.fleet import Fleet
from services.lead.integrator import Integrator, Waiting, attempt_branch, candidate_branch
from services.lead.journal import HeadMoved, Journal, Record, Row, RowKind
from services.lead.machine.decide import decide
from services.lead.machine.fold import fold
from services.lead.machine.happenings import (
    Bound,
    ClockRead,
    EndAsked,
    Ended,
    Happening,
    HeadPushed,
    Notices,
    RolesServed,
    Stacked,
)
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import Attempt, Run
from services.lead.machine.wanted import (
    CancelAttempt,
    Command,
    Follow,
    Placement,
    PushHead,
    StackCandidate,
    WakeAt,
    commands,
    placements,
)
from services.lead.requests import Requests

log = structlog.get_logger()

INBOX = 1000
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What every conductor of a lead works with."""

    journal: Journal
    fleet: Fleet
    artifacts: ArtifactStore
    requests: Requests
    integrator_of: Callable[[str], Integrator]
    patience: Patience = field(default_factory=Patience)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Told:
    """A happening in the inbox; `journaled` is resolved once its events are in the journal."""

    happening: Happening
    journaled: asyncio.Future[None]


class LeadAgent:
    """Conducts one run from its stored state to its end.

    Decisions are the machine's; everything here is awaited. Raises Fenced where another lead
    owns the run now: its calls are dropped, nothing is cancelled at the workers.
    """

    def __init__(self, run: Run, head: int, term: int, stage: Stage) -> None:
        self.run = run
        self._head = head
        self._term = term
        self._stage = stage
        self._integrator = stage.integrator_of(run.facts.repository)
        self._inbox: asyncio.Queue[Told] = asyncio.Queue(INBOX)
        self._under_way: dict[Command, asyncio.Task[None]] = {}
        self._done: set[Command] = set()

    async def conduct(self) -> None:
        """Conduct the run until it has ended."""
        for attempt in self.run.open_attempts:
            self._stage.fleet.hold(attempt.id, attempt.binding.address)
        with structlog.contextvars.bound_contextvars(run=self.run.facts.run_id):
            async with asyncio.TaskGroup() as children:
                watching = children.create_task(self._watch_fleet())
                await self._keep_going(children)
                while not self.run.core.phase.final:
                    await self._decide(await self._gather())
                    await self._keep_going(children)
                for child in (watching, *self._under_way.values()):
                    child.cancel()
            await self._clean_up()

    async def end_now(self, asked: EndAsked) -> None:
        """End a run that cannot be conducted: what is open is taken to be lost."""
        lost = [
            Ended(attempt.id, Outcome.LOST, asked.ending.message, asked.time)
            for attempt in self.run.open_attempts
        ]
        await self._append([asked, *lost])

    async def tell(self, happening: Happening) -> None:
        """Hand in what happened; returns once what follows from it is in the journal."""
        told = Told(happening, asyncio.get_running_loop().create_future())
        await self._inbox.put(told)
        await told.journaled

    async def _gather(self) -> list[Told]:
        gathered = [await self._inbox.get()]
        with suppress(asyncio.QueueEmpty):
            while True:
                gathered.append(self._inbox.get_nowait())
        return gathered

    async def _decide(self, gathered: Sequence[Told]) -> None:
        await self._append([told.happening for told in gathered])
        for told in gathered:
            if not told.journaled.done():
                told.journaled.set_result(None)

    async def _append(self, happenings: Sequence[Happening]) -> None:
        """Decide and journal, once more each time that another writer was quicker."""
        while True:
            run, written, rows = self.run, list[Record](), dict[tuple[RowKind, str], Row]()
            for happening in happenings:
                draft = decide(run, happening)
                if draft.events:
                    run = draft.run
                    written += records.records(draft)
                    rows |= {(row.kind, row.id): row for row in records.rows(draft)}
            if not written:
                return
            try:
                appended = await self._stage.journal.append(
                    run.facts.run_id, written, list(rows.values()), expected_head=self._head, term=self._term
                )
            except HeadMoved as moved:
                self._catch_up(moved)
            else:
                self.run, self._head = run, appended.last
                return

    def _catch_up(self, moved: HeadMoved) -> None:
        run = self.run.copy()
        for entry in moved.since:
            told = records.event(entry.record)
            if told:
                fold(run, *told)
        self.run, self._head = run, moved.since[-1].revision

    async def _keep_going(self, children: asyncio.TaskGroup) -> None:
        """Place what wants a worker; start commands that are wanted, stop those that are not."""
        await self._place()
        wanted = commands(self.run)
        for command in self._under_way.keys() - wanted:
            child = self._under_way.pop(command)
            if command not in self._done:
                child.cancel()
            self._done.discard(command)
        for command in wanted - self._under_way.keys():
            self._under_way[command] = children.create_task(self._perform(command))

    async def _place(self) -> None:
        """Bind placements to workers with a free slot; journaled before anything is sent."""
        bound: list[Bound] = []
        for wanted in placements(self.run):
            binding = self._stage.fleet.reserve(wanted.attempt_id, wanted.role)
            if binding:
                request = await self._stage.requests.build(self.run, wanted, binding)
                bound.append(Bound(wanted, binding, request, self._stage.clock()))
        if bound:
            await self._append(bound)
            for each in bound:
                if each.placement.attempt_id not in self.run.attempts:
                    self._release(each.placement, each.binding.address)
            await self._place()

    def _release(self, placement: Placement, address: str) -> None:
        self._stage.fleet.release(placement.attempt_id, address)

    async def _watch_fleet(self) -> None:
        """What workers serve, and every change that may free a slot."""
        version = -1
        while True:
            version = await self._stage.fleet.changed(version)
            await self.tell(RolesServed(self._stage.fleet.roles, self._stage.clock()))

    async def _perform(self, command: Command) -> None:
        """Perform a command until it is wanted no more. A failure is said, and tried again after a pause."""
        failures = 0
        while command in self._under_way:
            try:
                await self._once(command)
                pause = SHORTEST_PAUSE  # where it is wanted still, what it found was late
                failures = 0
            except Exception as error:
                pause = min(SHORTEST_PAUSE * 2**failures, LONGEST_PAUSE)
                failures += 1
                name = type(command).__name__
                log.warning("will be tried again", command=name, error=str(error), exc_info=error)
            if command in self._under_way:
                await asyncio.sleep(pause)

    async def _once(self, command: Command) -> None:
        action: Coroutine[Any, Any, None]
        match command:
            case Follow():
                action = self._follow(self.run.attempts[command.attempt_id])
            case CancelAttempt():
                action = self._call(self.run.attempts[command.attempt_id]).cancel(
                    worker_pb2.CANCEL_REASON_CANCELLED
                )
            case StackCandidate():
                action = self._stack(command)
            case PushHead():
                action = self._push(command)
            case WakeAt():
                action = self._wake(command)
        await action

    async def _conclude(self, command: Command, happening: Happening) -> None:
        """Tell how a command ended. It is not stopped for being wanted no more: it may clear up first."""
        self._done.add(command)
        await self.tell(happening)

    def _call(self, attempt: Attempt) -> AttemptCall:
        async def journal_notices(notices: tuple[Any, ...]) -> None:
            await self.tell(Notices(attempt.id, notices, self._stage.clock()))

        return AttemptCall(
            attempt,
            self.run.facts.run_id,
            self._stage.fleet,
            self._integrator,
            self._stage.artifacts,
            journal_notices,
            self._stage.patience,
        )

    async def _follow(self, attempt: Attempt) -> None:
        with structlog.contextvars.bound_contextvars(task=attempt.task_id, attempt=attempt.id):
            call = self._call(attempt)
            happening = await call.follow()
            refused = not hasattr(happening, "outcome")
            log.info(
                "an attempt was refused" if refused else "an attempt ended", told=happening.message[:200]
            )
            await self.tell(happening)
            self._stage.fleet.release(attempt.id, attempt.binding.address, refused=refused)
            if not refused:
                await call.release()

    async def _stack(self, command: StackCandidate) -> None:
        run_id = self.run.facts.run_id
        waiting = [
            Waiting(
                task_id,
                own,
                attempt_branch(run_id, task_id, self.run.attempts[own.attempt_id].number),
                self.run.tasks[task_id].spec.title,
            )
            for task_id, own in command.commits
        ]
        stack = await self._integrator.stack(run_id, command.number, command.onto, waiting)
        await self.tell(
            Stacked(
                command.number,
                command.onto,
                stack.commit,
                stack.tree,
                stack.tasks,
                stack.conflicts,
                self._stage.clock(),
            )
        )

    async def _push(self, command: PushHead) -> None:
        integrating = command.integrating
        run_id = self.run.facts.run_id
        merged = [
            attempt_branch(run_id, task.id, self.run.attempts[task.own.attempt_id].number)
            for task in (self.run.tasks[task_id] for task_id in integrating.tasks)
            if task.own
        ]
        candidate = candidate_branch(run_id, self.run.core.candidates)
        moved = await self._integrator.move_head(run_id, integrating.start, integrating.to)
        await self._conclude(command, HeadPushed(moved, self._stage.clock()))
        if moved:
            await self._integrator.delete([*merged, candidate])

    async def _wake(self, command: WakeAt) -> None:
        delay = (command.time - self._stage.clock()).total_seconds()
        await asyncio.sleep(max(0.0, delay))
        await self.tell(ClockRead(max(self._stage.clock(), command.time)))

    async def _clean_up(self) -> None:
        """Candidates that came to nothing leave no branch behind."""
        run_id = self.run.facts.run_id
        left = [candidate_branch(run_id, number) for number in range(1, self.run.core.candidates + 1)]
        await self._integrator.delete(left)
