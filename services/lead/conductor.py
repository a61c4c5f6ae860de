"""LeadAgent conducts one run: it keeps the wanted commands going, and journals what they find."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from codeframe.v1 import worker_pb2
from services.lead import records
from services.lead.adoption import PLAN, PlanRefused, adopted
from services.lead.artifacts import ArtifactStore
from services.lead.attempt_call import AttemptCall, Patience
from services.lead.fleet import Fleet
from services.lead.integrator import Integrator, Waiting, attempt_branch, candidate_branch
from services.lead.journal import HeadMoved, Journal, Record, Row, RowKind, StoreFailed
from services.lead.machine.attempt import Attempt, AttemptKind
from services.lead.machine.decide import decide
from services.lead.machine.events import Noticed
from services.lead.machine.fold import fold
from services.lead.machine.happenings import (
    Bound,
    ClockRead,
    EndAsked,
    Ended,
    Happening,
    HeadPushed,
    Notices,
    NotStarted,
    Planned,
    ProvidersHeld,
    RolesServed,
    Stacked,
)
from services.lead.machine.outcome import Outcome
from services.lead.machine.run import Run
from services.lead.machine.state import Hold, Integrating
from services.lead.machine.task import TaskState
from services.lead.machine.wanted import (
    AskLost,
    CancelAttempt,
    Command,
    Follow,
    PushHead,
    StackCandidate,
    WakeAt,
    asked_model,
    commands,
    placements,
)
from services.lead.requests import Requests
from services.runtime.git import GitError

log = structlog.get_logger()

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
CLEARING_UP = 20.0
"""Seconds that a run's end waits for branches to be deleted, at most."""

Child = asyncio.Task[None]


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


class ConductorEnded(Exception):
    """What was told to a conductor is not journaled: it ended, or failed, before."""


@dataclass(frozen=True, slots=True)
class Told:
    """A happening that waits; `journaled` is resolved once what follows from it is in the journal."""

    happening: Happening
    journaled: asyncio.Future[bool]


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Found:
    """How a command ended, and what is to be cleared up once that is journaled."""

    happening: Happening
    clear_up: Callable[[], Awaitable[None]] = _nothing


class LeadAgent:
    """Conducts one run from its stored state to its end.

    Decisions are the machine's; everything here is awaited. What happens meanwhile gathers, and
    is appended together: one append is under way at a time. Who tells something waits until it
    is journaled, so no more gathers than there are tellers.
    """

    def __init__(self, run: Run, head: int, term: int, stage: Stage) -> None:
        self.run = run
        self._head = head
        self._term = term
        self._stage = stage
        self._integrator = stage.integrator_of(run.facts.repository)
        self._told: list[Told] = []
        self._news = asyncio.Event()
        self._ended = False
        self._roles_told = False
        self._under_way: dict[Hashable, Child] = {}
        self._concluding: set[Child] = set()

    async def conduct(self) -> None:
        """Conduct the run until it has ended.

        Raises Fenced where another lead owns the run now: calls are dropped, nothing is cancelled
        at the workers; and so it is when this is cancelled.
        """
        with structlog.contextvars.bound_contextvars(run=self.run.facts.run_id):
            for attempt in self.run.open_attempts:
                model = asked_model(self.run, attempt)
                self._stage.fleet.hold(attempt.id, attempt.role, model, attempt.binding.address)
            async with asyncio.TaskGroup() as children:
                try:
                    watching = children.create_task(self._watch_fleet())
                    await self._keep_going(children)
                    while not self.run.core.phase.final:
                        await self._news.wait()
                        await self._take_in()
                        await self._keep_going(children)
                    watching.cancel()
                finally:
                    self._ended = True
                    self._answer(self._told, False)
            log.info("the run has ended", state=self.run.core.phase.value)

    async def end_now(self, asked: EndAsked) -> None:
        """End a run that cannot be conducted: what is open is taken to be lost."""
        open_attempts = self.run.open_attempts
        lost = [
            Ended(attempt.id, Outcome.LOST, asked.ending.message, asked.time) for attempt in open_attempts
        ]
        await self._append([asked, *lost])
        for attempt in open_attempts:
            self._stage.fleet.release(attempt.id, attempt.binding.address)

    async def tell(self, happening: Happening) -> None:
        """Hand in what happened; returns once what follows from it is in the journal.

        Raises ConductorEnded.
        """
        if self._ended:
            raise ConductorEnded(f"run {self.run.facts.run_id} is not conducted any more")
        told = Told(happening, asyncio.get_running_loop().create_future())
        self._told.append(told)
        self._news.set()
        if not await told.journaled:
            raise ConductorEnded(f"run {self.run.facts.run_id} was not conducted on")

    async def _take_in(self) -> None:
        """Journal what follows from all that gathered."""
        self._news.clear()
        told, self._told = self._told, []
        journaled = False
        try:
            await self._append([each.happening for each in told])
            journaled = True
            self._roles_told |= any(isinstance(each.happening, RolesServed) for each in told)
        finally:
            self._ended = not journaled
            self._answer(told, journaled)

    def _answer(self, told: Sequence[Told], journaled: bool) -> None:
        for each in told:
            if not each.journaled.done():
                each.journaled.set_result(journaled)

    async def _append(self, happenings: Sequence[Happening]) -> None:
        """Decide and journal, once more each time that another writer was quicker."""
        failures = 0
        while True:
            run, written, rows = self.run, list[Record](), dict[tuple[RowKind, str], Row]()
            for happening in happenings:
                draft = decide(run, happening)
                if draft.events:
                    run = draft.run
                    more, changed = await records.written(draft)
                    written += more
                    rows |= {(row.kind, row.id): row for row in changed}
            if not written:
                return
            if run.core.phase.final:
                await self._clear_up(run)
            try:
                appended = await self._stage.journal.append(
                    run.facts.run_id, written, list(rows.values()), expected_head=self._head, term=self._term
                )
            except HeadMoved as moved:
                self._catch_up(moved)
            except StoreFailed as error:
                log.error("the journal cannot be written; trying again", problem=str(error))
                await asyncio.sleep(pause(failures))
                failures += 1
            else:
                self.run, self._head = run, appended.last
                return

    async def _clear_up(self, run: Run) -> None:
        """Delete what a run that ends does not need: its candidates, and the branches of what was merged.

        Before the end is journaled: nobody is told of it sooner, and no stop or crash can come between.
        """
        stacking = [
            key
            for key in self._under_way
            if isinstance(key, tuple) and self._under_way[key] not in self._concluding
        ]
        children = [self._under_way.pop(key) for key in stacking]
        for child in children:
            child.cancel()
        if children:
            await asyncio.wait(children)  # what they push, they push before what is left is deleted
        merged = {
            self._branch(task.id, task.own.attempt_id)
            for task in run.tasks.values()
            if task.own and task.state is TaskState.COMPLETED
        }
        try:
            async with asyncio.timeout(CLEARING_UP):
                await self._integrator.clear_up(run.facts.run_id, merged)
        except TimeoutError:
            log.warning("branches may be left behind: the repository does not answer")

    def _catch_up(self, moved: HeadMoved) -> None:
        run = self.run.copy()
        for entry in moved.since:
            told = records.event(entry.record)
            if told:
                fold(run, *told)
        self.run, self._head = run, moved.since[-1].revision

    async def _keep_going(self, children: asyncio.TaskGroup) -> None:
        """Stop what is not wanted any more, bind what wants a worker, start what is wanted."""
        self._stop_unwanted()
        await self._place()
        self._stop_unwanted()
        for key, command in self._wanted().items():
            if key not in self._under_way:
                self._under_way[key] = children.create_task(self._perform(key, command))

    def _wanted(self) -> dict[Hashable, Command]:
        return {_key(command): command for command in commands(self.run)}

    def _stop_unwanted(self) -> None:
        for key in self._under_way.keys() - self._wanted().keys():
            child = self._under_way.pop(key)
            if child not in self._concluding:
                child.cancel()

    async def _place(self) -> None:
        """Bind what wants a worker to one with a free slot; journaled before anything is sent.

        Nothing is bound before it is known which roles are served: a run may be told to fail for that.
        """
        while self._roles_told and (bound := await self._reserve()):
            try:
                await self._append(bound)
            finally:
                for each in bound:
                    attempt = self.run.attempts.get(each.placement.attempt_id)
                    if not attempt or not attempt.open or attempt.binding != each.binding:
                        self._stage.fleet.release(each.placement.attempt_id, each.binding.address)

    async def _reserve(self) -> list[Bound]:
        """Placements that got a worker, with their requests."""
        bound: list[Bound] = []
        for wanted in placements(self.run):
            binding = self._stage.fleet.reserve(wanted.attempt_id, wanted.role, wanted.model)
            if not binding:
                continue
            try:
                roles = self._stage.fleet.known_roles
                request = await self._stage.requests.build(self.run, wanted, binding, roles)
            except BaseException:
                for attempt_id, address in [
                    (wanted.attempt_id, binding.address),
                    *((each.placement.attempt_id, each.binding.address) for each in bound),
                ]:
                    self._stage.fleet.release(attempt_id, address)
                raise
            bound.append(Bound(wanted, binding, request, self._stage.clock()))
        return bound

    async def _watch_fleet(self) -> None:
        """Tell which roles are served and which providers held, each time that there may be others, or a
        free slot."""
        fleet, version = self._stage.fleet, 0
        with suppress(ConductorEnded):
            while True:
                version = await fleet.changed(version)
                await self.tell(RolesServed(fleet.roles, self._stage.clock(), fleet.lacks))
                if (holds := self._holds()) != self.run.core.holds:
                    await self.tell(ProvidersHeld(holds, self._stage.clock()))

    def _holds(self) -> tuple[Hold, ...]:
        holds = (self._stage.fleet.hold_on(role, model) for role, model in self.run.model_asks)
        return tuple(hold for hold in holds if hold)

    async def _perform(self, key: Hashable, command: Command) -> None:
        """Perform a command, and tell what it found, until it is wanted no more.

        A failure is said once, and the command is tried again after a pause. Where the command is
        wanted no more this is cancelled, unless it has found something: then it clears up behind itself.
        """
        this = asyncio.current_task()
        assert this is not None
        failures = 0
        while True:
            try:
                found = await self._act(command)
                self._concluding.add(this)
                if found:
                    await self.tell(found.happening)
                    await found.clear_up()
                failures = 0
            except Exception as error:
                if self._ended:
                    return
                trouble = None if isinstance(error, GitError) else error
                if not failures:
                    log.warning("trying again", what=type(command).__name__, why=str(error), exc_info=trouble)
                failures += 1
            finally:
                self._concluding.discard(this)
            if self._under_way.get(key) is not this:
                return
            await asyncio.sleep(pause(failures))

    async def _act(self, command: Command) -> Found | None:
        """Do a command, however long it takes; what it found, where there is something to tell."""
        match command:
            case Follow():
                return await self._follow(self.run.attempts[command.attempt_id])
            case CancelAttempt():
                call = self._call(self.run.attempts[command.attempt_id])
                await call.cancel(worker_pb2.CANCEL_REASON_CANCELLED)
                return None  # its Follow tells how it ended
            case AskLost():
                return Found(await self._call(self.run.attempts[command.attempt_id]).ask_lost())
            case StackCandidate():
                return Found(await self._stack(command))
            case PushHead():
                return await self._push(command.integrating)
            case WakeAt():
                delay = (command.time - self._stage.clock()).total_seconds()
                await asyncio.sleep(max(0.0, delay))
                return Found(ClockRead(max(self._stage.clock(), command.time)))

    def _call(self, attempt: Attempt) -> AttemptCall:
        async def journal_notices(notices: tuple[Noticed, ...]) -> None:
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

    async def _follow(self, attempt: Attempt) -> Found:
        fleet, address = self._stage.fleet, attempt.binding.address
        with structlog.contextvars.bound_contextvars(task=attempt.task_id, attempt=attempt.id):
            told = await self._call(attempt).follow()
            # The slot is freed before this is told: the next placement sees it, or spares who refused.
            if isinstance(told, NotStarted):
                log.info("an attempt was refused", worker=address, why=told.message)
                fleet.release(attempt.id, address, refused=True)
                return Found(told)
            log.info("an attempt has ended", outcome=told.outcome.value, message=told.message[:200])
            if attempt.kind is AttemptKind.PLAN and told.outcome is Outcome.SUCCEEDED:
                happening = await self._planned(told)
            else:
                happening = told
            unavailable = told.outcome is Outcome.PROVIDER_UNAVAILABLE
            fleet.release(attempt.id, address, unavailable=unavailable)
            return Found(happening, lambda: fleet.let_go(attempt.id, address))

    async def _planned(self, told: Ended) -> Planned | Ended:
        """What a plan makes of the run; or the attempt's end, where the plan cannot be run."""
        data = await self._stage.artifacts.read_whole(told.attempt_id, PLAN)
        tree = await self._integrator.tree(self.run.facts.base)
        try:
            return adopted(told, data, tree, self._stage.fleet.roles)
        except PlanRefused as refused:
            log.warning("a plan is refused", why=str(refused))
            return replace(told, outcome=Outcome.VERIFICATION_FAILED, message=str(refused))

    async def _stack(self, command: StackCandidate) -> Stacked:
        run_id = self.run.facts.run_id
        waiting = [
            Waiting(task_id, own, self._branch(task_id, own.attempt_id), self.run.tasks[task_id].spec.title)
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

    async def _push(self, integrating: Integrating) -> Found:
        run_id = self.run.facts.run_id
        tasks = (self.run.tasks[task_id] for task_id in integrating.tasks)
        merged = [self._branch(task.id, task.own.attempt_id) for task in tasks if task.own]
        merged.append(candidate_branch(run_id, self.run.core.candidates))
        moved = await self._integrator.move_head(run_id, integrating.start, integrating.to)
        if moved:
            # Before it is told: a crash in between only has it done again, and no stop can come after it.
            await self._integrator.delete(merged)
        return Found(HeadPushed(moved, self._stage.clock()))

    def _branch(self, task_id: str, attempt_id: str) -> str:
        return attempt_branch(self.run.facts.run_id, task_id, self.run.attempts[attempt_id].number)


def _key(command: Command) -> Hashable:
    """What makes two commands the same: a stacking goes on though more commits have come to wait."""
    if isinstance(command, StackCandidate):
        return (StackCandidate, command.number, command.onto)
    return command


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row, and one."""
    return min(SHORTEST_PAUSE * 2.0 ** min(failures, 20), LONGEST_PAUSE)
