"""The runs of this lead: each has its conductor, from creation or recovery to its end."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import structlog

from services.lead import records
from services.lead.conductor import ConductorEnded, LeadAgent, pause
from services.lead.journal import (
    Fenced,
    HeadMoved,
    Journal,
    NewRun,
    Record,
    Row,
    RowKind,
    RunHead,
    StoreFailed,
)
from services.lead.machine.draft import Draft
from services.lead.machine.happenings import EndAsked
from services.lead.machine.private_records import Claimed
from services.lead.machine.run import Run
from services.lead.machine.state import Ending, RunFailure, RunFailureReason, RunState
from services.lead.openings import Opening, Openings
from services.lead.stage import Stage
from services.runtime.errors import Aborted

log = structlog.get_logger()

TRIES = 10
RETRY_AFTER = timedelta(seconds=0.1)

CRASHES = 3
"""A conductor that fails is started again from its stored state; so often, and the run fails."""


class Runs:
    """Owns a conductor for each run that has not ended. `owner` names this lead in what it claims.

    `await keep()` recovers them and conducts until cancelled; attempts at workers go on
    without a lead, and are joined again after the next start.
    """

    def __init__(self, stage: Stage, openings: Openings, owner: str) -> None:
        self._stage = stage
        self._openings = openings
        self._owner = owner
        self._journal: Journal = stage.journal
        self._agents: dict[str, LeadAgent] = {}
        self._group: asyncio.TaskGroup | None = None
        self._ready = asyncio.Event()

    async def keep(self) -> None:
        """Conduct every run that has not ended, and those created meanwhile, until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            for opening in self._openings.left():
                self._group.create_task(self._openings.settle(opening))
            after = 0
            while heads := await self._journal.open_runs(after):
                for head in heads:
                    after = head.created
                    self._group.create_task(self._conduct(head.run.run_id))
            self._ready.set()
            await asyncio.Event().wait()

    async def create(self, new: NewRun, draft: Draft) -> None:
        """Open a new run's branch, journal the run, and conduct it. Raises GitError, RequestIdTaken.

        Cancelled meanwhile, the run is made all the same, and conducted; refused, its branch is deleted.
        """
        await self._ready.wait()
        written, rows = await records.written(draft)
        journaled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        assert self._group is not None
        self._group.create_task(self._begin(new, draft.run, written, rows, journaled))
        await journaled

    async def _begin(
        self,
        new: NewRun,
        run: Run,
        written: Sequence[Record],
        rows: Sequence[Row],
        journaled: asyncio.Future[None],
    ) -> None:
        opening = Opening(new.run_id, run.facts.repository, run.facts.base)
        try:
            await self._openings.open(opening)
            appended = await self._journal.create(new, written, rows)
        except Exception as refusal:
            await self._openings.settle(opening)
            if not journaled.done():
                journaled.set_exception(refusal)
            return
        except asyncio.CancelledError:
            journaled.cancel()
            raise
        self._openings.forget(opening)
        if not journaled.done():
            journaled.set_result(None)
        await self._conduct(new.run_id, LeadAgent(run, appended.last, appended.term, self._stage))

    async def end(self, run_id: str, ending: Ending) -> None:
        """Ask a run to end; returns once that is journaled. A run that has ended stays as it is.

        Raises Aborted, CONTENTION, where its conductor fails again and again meanwhile.
        """
        await self._ready.wait()
        for _ in range(TRIES):
            head = await self._journal.run(run_id)
            if not head or head.final:
                return
            agent = self._agents.get(run_id)
            try:
                if agent:
                    await agent.tell(EndAsked(ending, self._stage.clock()))
                    return
            except ConductorEnded:
                pass  # it has ended by itself, or is started again
            await asyncio.sleep(RETRY_AFTER.total_seconds())
        raise Aborted("CONTENTION", f"run {run_id} is being started again", retry_after=RETRY_AFTER)

    async def _conduct(self, run_id: str, agent: LeadAgent | None = None) -> None:
        """Conduct a run to its end, again from its stored state where its conductor failed."""
        crashes = 0
        going = True
        while going:
            going = False
            try:
                agent = agent or await self._recover(run_id)
                self._agents[run_id] = agent
                await agent.conduct()
            except* Fenced:
                log.warning("another lead owns the run now", run=run_id)
            except* Exception as group:
                crashes += 1
                log.error("a conductor failed", run=run_id, crashes=crashes, exc_info=group)
                agent = None
                if crashes < CRASHES:
                    going = True
                else:
                    await self._give_up(run_id, group)
        self._agents.pop(run_id, None)

    async def _give_up(self, run_id: str, group: BaseException) -> None:
        """End a run as FAILED / INTERNAL."""
        line = traceback.format_exception_only(group)[-1].strip()
        message = f"its conductor failed {CRASHES} times, at last with {line}; the lead's log explains it"
        ending = Ending(RunState.FAILED, RunFailure(RunFailureReason.INTERNAL, message), message)
        try:
            agent = await self._recover(run_id)
            await agent.end_now(EndAsked(ending, self._stage.clock()))
        except Exception:
            log.exception("a run could not be ended; the next start tries again", run=run_id)

    async def _recover(self, run_id: str) -> LeadAgent:
        """A conductor on the state that the journal holds, under a term of its own.

        Whoever conducted the run before is fenced, with what it may still have handed in. Waits
        for a journal that cannot be written.
        """
        failures = 0
        while True:
            try:
                return await self._claim(run_id)
            except StoreFailed as error:
                log.error("a run cannot be taken over; trying again", run=run_id, problem=str(error))
            await asyncio.sleep(pause(failures))
            failures += 1

    async def _claim(self, run_id: str) -> LeadAgent:
        for _ in range(TRIES):
            head = await self._journal.run(run_id)
            if head is None:
                raise LookupError(f"the journal has no run {run_id}")
            draft = Draft(await self._load(head), self._stage.clock())
            draft.emit(Claimed(head.term + 1, self._owner))
            try:
                written, rows = await records.written(draft)
                claimed = await self._journal.claim(run_id, written, rows, expected_head=head.head)
            except HeadMoved:
                continue  # what was appended meanwhile is not in the rows that were read
            run = draft.run
            log.info(
                "conducting a run from its stored state",
                run=run_id,
                term=claimed.term,
                open_attempts=len(run.open_attempts),
            )
            return LeadAgent(run, claimed.last, claimed.term, self._stage)
        raise Aborted("CONTENTION", f"run {run_id} is written to without a pause", retry_after=RETRY_AFTER)

    async def _load(self, head: RunHead) -> Run:
        run_id = head.run.run_id
        row = await self._journal.row(run_id, RowKind.RUN, run_id)
        if row is None:
            raise LookupError(f"run {run_id} has no row")
        tasks = [body async for body in self._bodies(run_id, RowKind.TASK)]
        attempts = [body async for body in self._bodies(run_id, RowKind.ATTEMPT)]
        return records.load(row.row.body, tasks, attempts)

    async def _bodies(self, run_id: str, kind: RowKind) -> AsyncIterator[bytes]:
        after, more = -1, True
        while more:
            page = await self._journal.rows(run_id, kind, after=after)
            for stored in page.rows:
                after = stored.row.ordinal
                yield stored.row.body
            more = page.more
