"""LeadAgent conducts one run: it keeps the wanted commands going, and journals what they find."""

import asyncio
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from services.lead import records
from services.lead.journal import HeadMoved, Record, Row, RowKind, StoreFailed
from services.lead.machine.decide import decide
from services.lead.machine.fold import fold
from services.lead.machine.happenings import Bound, EndAsked, Ended, Happening, ProvidersHeld, RolesServed
from services.lead.machine.outcome import Outcome
from services.lead.machine.run import Run
from services.lead.machine.state import Hold
from services.lead.machine.task import TaskState
from services.lead.machine.wanted import Command, StackCandidate, asked_model, commands, placements
from services.lead.performer import Performer, own_branch
from services.lead.stage import Stage
from services.runtime.git import GitError

log = structlog.get_logger()

SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
CLEARING_UP = 20.0
"""Seconds that a run's end waits for branches to be deleted, at most."""

Child = asyncio.Task[None]


class ConductorEnded(Exception):
    """What was told to a conductor is not journaled: it ended, or failed, before."""


@dataclass(frozen=True, slots=True)
class Told:
    """A happening that waits; `journaled` is resolved once what follows from it is in the journal."""

    happening: Happening
    journaled: asyncio.Future[bool]


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
        self._performer = Performer(stage, self._integrator, self.tell)
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
                    while not self.run.core.state.final:
                        await self._news.wait()
                        await self._take_in()
                        await self._keep_going(children)
                    watching.cancel()
                finally:
                    self._ended = True
                    self._answer(self._told, False)
            log.info("the run has ended", state=self.run.core.state.value)

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
            if run.core.state.final:
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
            own_branch(run, task.id, task.own)
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
                found = await self._performer.perform(self.run, command)
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


def _key(command: Command) -> Hashable:
    """What makes two commands the same: a stacking goes on though more commits have come to wait."""
    if isinstance(command, StackCandidate):
        return (StackCandidate, command.number, command.onto)
    return command


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row, and one."""
    return min(SHORTEST_PAUSE * 2.0 ** min(failures, 20), LONGEST_PAUSE)
