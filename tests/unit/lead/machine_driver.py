"""Plays workers, git and the clock to a machine, and holds what must be true after every step."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from codeframe.budget import NO_LIMIT, Budget, Charge
from codeframe.plan import PlannedTask
from codeframe.v1 import events_pb2, evidence_pb2
from services.lead import records
from services.lead.journal import Record
from services.lead.machine import events as e
from services.lead.machine import happenings as h
from services.lead.machine import private_records as r
from services.lead.machine.attempt import AttemptKind, Binding
from services.lead.machine.decide import create, decide
from services.lead.machine.draft import Draft
from services.lead.machine.outcome import Outcome
from services.lead.machine.run import Run
from services.lead.machine.state import Check, RunFacts, RunFailureReason, RunLimits, RunState
from services.lead.machine.task import TaskState, WaitingFor
from services.lead.machine.usage import Usage
from services.lead.machine.wanted import (
    CancelAttempt,
    Command,
    Placement,
    PushHead,
    StackCandidate,
    commands,
    placements,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
BASE = "0" * 40
ROLES = frozenset({"backend", "frontend", "test", "planner"})


TURN = Charge(tokens=100, cost_micros=1000, turns=1, wall_time=timedelta(seconds=60))
"""What one turn is taken to need in these runs."""


def task(
    id: str,
    *depends_on: str,
    role: str = "backend",
    priority: int = 2,
    verification: str = "",
    budget: Budget = NO_LIMIT,
) -> PlannedTask:
    return PlannedTask(
        id,
        f"task {id}",
        role=role,
        depends_on=depends_on,
        priority=priority,
        verification=verification,
        budget=budget,
    )


class Driver:
    """One run, its records and its rows, as a journal would hold them.

    With a goal, the tasks are the plan that its attempt makes.
    """

    def __init__(
        self,
        *tasks: PlannedTask,
        limits: RunLimits | None = None,
        checks: int = 1,
        goal: str = "",
        fail_unserved: bool = False,
        budget: Budget = NO_LIMIT,
    ) -> None:
        limits = limits or RunLimits()
        facts = RunFacts("r", "p", "q", "title", "/repo", BASE, "codeframe/r/head", limits, START)
        facts = replace(facts, goal=goal, fail_unserved=fail_unserved, budget=budget, turn=TURN)
        every = tuple(Check(key, "backend", f"pytest {key}") for key in range(checks))
        check_of = {
            each.id: index % max(1, checks) for index, each in enumerate(tasks) if not each.unverified
        }
        self.now = START
        self.commits = 0
        self.events: list[e.Event] = []
        self.journal: list[Record] = []
        self.task_rows: dict[str, bytes] = {}
        self.attempt_rows: dict[str, bytes] = {}
        self.run_row = b""
        self.plan = (tasks, every, check_of)
        self.keep(create(r.RunCreated(facts, *(((), (), {}) if goal else self.plan)), START))

    def keep(self, draft: Draft) -> list[e.Event]:
        """Store a draft, as an append does."""
        self.run: Run = draft.run
        new = [event for event, _ in draft.events]
        self.events += new
        self.journal += records.records(draft)
        for row in records.rows(draft):
            store = {"task": self.task_rows, "attempt": self.attempt_rows}.get(row.kind.value)
            if store is None:
                self.run_row = row.body
            else:
                store[row.id] = row.body
        return new

    def tell(self, happening: h.Happening) -> list[e.Event]:
        self.now = max(self.now, happening.time)
        before = self.run.copy()
        new = self.keep(decide(self.run, happening))
        self.hold_true(before)
        return new

    def hold_true(self, before: Run) -> None:
        run = self.run
        assert sum(run.counts.values()) == len(run.tasks)
        for each in before.tasks.values():
            if each.state.final:
                assert run.tasks[each.id].state is each.state, "a final state never changes"
        for each in run.tasks.values():
            if each.state in (TaskState.ASSIGNED, TaskState.IN_PROGRESS, TaskState.COMPLETED):
                assert all(run.tasks[on].state is TaskState.COMPLETED for on in each.spec.depends_on)
        busy = sum(attempt.kind is AttemptKind.TASK for attempt in run.open_attempts)
        assert busy <= run.facts.limits.concurrency

    def tick(self, seconds: float = 0) -> datetime:
        self.now += timedelta(seconds=seconds or 0.001)
        return self.now

    def serve(self) -> list[e.Event]:
        return self.tell(h.RolesServed(ROLES, self.tick()))

    def bind(self, placement: Placement | None = None, worker: str = "w") -> str:
        """Give the first (or a given) placement a worker; its attempt's id."""
        wanted = placement or placements(self.run)[0]
        binding = Binding(worker, "127.0.0.1:1", "incarnation")
        self.tell(h.Bound(wanted, binding, b"request\xff", self.tick()))
        return wanted.attempt_id

    def spend(self, attempt_id: str, tokens: int, cost_micros: int = 0, *, cost_known: bool = True) -> None:
        """Have an attempt's notice tell of a turn."""
        attempt = self.run.attempts[attempt_id]
        usage = Usage("m", 1, input_tokens=tokens, cost_micros=cost_micros, cost_known=cost_known)
        payload = evidence_pb2.ModelUsage(
            model="m", turns=1, input_tokens=tokens, cost_micros=cost_micros, cost_known=cost_known
        )
        recorded = events_pb2.UsageRecorded(task_id=attempt.task_id, usage=payload)
        noticed = e.Noticed(
            attempt_id,
            attempt.last_sequence + 1,
            self.tick(),
            "usage_recorded",
            recorded.SerializeToString(),
            usage=usage,
        )
        self.tell(h.Notices(attempt_id, (noticed,), self.now))

    def end(
        self, attempt_id: str, outcome: Outcome = Outcome.SUCCEEDED, commit: str = "", **more: object
    ) -> list[e.Event]:
        attempt = self.run.attempts[attempt_id]
        if attempt.kind is AttemptKind.TASK and outcome is Outcome.SUCCEEDED and not commit:
            commit = self.new_commit()
        ended = h.Ended(
            attempt_id, outcome, outcome.value, self.tick(), commit=commit, tree=f"tree-{commit}", passed=1
        )
        if outcome is not Outcome.LOST:
            ended = replace(ended, result=b"\x12\x00", usage=attempt.usage)
        ended = replace(ended, **more)  # type: ignore[arg-type]
        if attempt.kind is AttemptKind.PLAN and outcome is Outcome.SUCCEEDED:
            return self.tell(self.planned(ended))
        return self.tell(ended)

    def planned(self, ended: h.Ended, served: frozenset[str] = ROLES) -> h.Planned:
        artifact = e.ArtifactHeld("plan", "application/json", 2, "5" * 64)
        return h.Planned(replace(ended, artifacts=(artifact,)), "a plan", *self.plan, artifact, served)

    def new_commit(self) -> str:
        self.commits += 1
        return f"{self.commits:040x}"

    def verify_base(self) -> None:
        self.serve()
        while verifications := [p for p in placements(self.run) if p.kind is AttemptKind.VERIFY]:
            self.end(self.bind(verifications[0]))

    def wanted(self, kind: type[Command]) -> list[Command]:
        return [command for command in commands(self.run) if isinstance(command, kind)]

    def stack(self, conflicts: dict[str, str] | None = None, tree: str = "") -> list[e.Event]:
        """Do the stacking that is wanted: a commit of the same tree as the first task's where it is alone."""
        (wanted,) = self.wanted(StackCandidate)
        assert isinstance(wanted, StackCandidate)
        included = tuple(task_id for task_id, _ in wanted.commits if task_id not in (conflicts or {}))
        commit = self.new_commit() if included else ""
        return self.tell(
            h.Stacked(
                wanted.number,
                wanted.onto,
                commit,
                tree or f"tree-{commit}",
                included,
                conflicts or {},
                self.tick(),
            )
        )

    def push(self, moved: bool = True) -> list[e.Event]:
        assert self.wanted(PushHead)
        return self.tell(h.HeadPushed(moved, self.tick()))

    def merge(self) -> None:
        """Bring everything in the merge queue into the head, all green."""
        while self.run.merging and not self.run.core.state.final:
            if self.wanted(StackCandidate):
                self.stack()
            for placement in [p for p in placements(self.run) if p.kind is AttemptKind.VERIFY]:
                self.end(self.bind(placement))
            if self.wanted(PushHead):
                self.push()

    def play(self, judge: Callable[[str], Outcome] = lambda attempt_id: Outcome.SUCCEEDED) -> None:
        """Play the run to its end; `judge` says how each task attempt ends."""
        for _ in range(10_000):
            if self.run.core.state.final:
                return
            for placement in placements(self.run):
                self.bind(placement)
            for attempt in list(self.run.open_attempts):
                if CancelAttempt(attempt.id) in commands(self.run):
                    self.end(attempt.id, Outcome.CANCELLED)
                else:
                    is_task = attempt.kind is AttemptKind.TASK
                    self.end(attempt.id, judge(attempt.id) if is_task else Outcome.SUCCEEDED)
            self.merge()
            self.tell(h.ClockRead(self.tick(60)))
        raise AssertionError("the run does not end")

    def run_state(self) -> RunState:
        return self.run.core.state

    def failed(self) -> RunFailureReason | None:
        return self.run.core.failure.reason if self.run.core.failure else None

    def waiting(self, task_id: str) -> WaitingFor | None:
        return self.run.tasks[task_id].waiting_for

    def states(self) -> dict[str, str]:
        return {each.id: each.state.value for each in self.run.tasks.values()}

    def assert_stored_truly(self) -> None:
        """Folding the records equals the rows, and both equal the state."""
        order = sorted(self.run.attempts.values(), key=lambda attempt: attempt.ordinal)
        loaded = records.load(
            self.run_row,
            [self.task_rows[each.id] for each in self.run.tasks.values()],
            [self.attempt_rows[each.id] for each in order],
        )
        folded = records.folded(self.journal)
        for other in (loaded, folded):
            assert other.facts == self.run.facts
            assert other.core == self.run.core
            assert other.tasks == self.run.tasks
            assert other.attempts == self.run.attempts
            assert (other.counts, other.unmet) == (self.run.counts, self.run.unmet)
            assert other.unverified == self.run.unverified
            assert commands(other) == commands(self.run)
            assert placements(other) == placements(self.run)
