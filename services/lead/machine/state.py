"""What the machine knows of a run: frozen values in one aggregate that `fold` moves forward."""

import bisect
import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from codeframe.budget import NO_LIMIT, NOTHING, Budget, Charge
from codeframe.plan import PlannedTask
from services.lead.machine.outcome import Outcome
from services.lead.machine.usage import Usage


class RunPhase(enum.Enum):
    """A run's state (the proto's RunState)."""

    PLANNING = "planning"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the run has ended."""
        return self in _FINAL_RUN


_FINAL_RUN = frozenset({RunPhase.COMPLETED, RunPhase.FAILED, RunPhase.CANCELLED})


class TaskState(enum.Enum):
    """A task's state (the proto's TaskState)."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        """Whether the task has ended."""
        return self in _FINAL_TASK


_FINAL_TASK = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED})


class Phase(enum.Enum):
    """What is being done for a task that is IN_PROGRESS."""

    SETUP = "setup"
    WORKING = "working"
    VERIFYING = "verifying"
    CORRECTING = "correcting"
    MERGING = "merging"


class WaitingFor(enum.Enum):
    """What a PENDING task waits for."""

    DEPENDENCIES = "dependencies"
    SLOT = "slot"
    WORKER = "worker"
    RETRY_TIME = "retry_time"
    BASE = "base"
    BUDGET = "budget"
    PROVIDER = "provider"


class RunFailureReason(enum.Enum):
    """Why a run failed (the proto's enum)."""

    TASKS_FAILED = "tasks_failed"
    RUN_TIMEOUT = "run_timeout"
    NO_WORKER = "no_worker"
    BASE_UNVERIFIABLE = "base_unverifiable"
    RUN_BRANCH_MOVED = "run_branch_moved"
    BUDGET_EXHAUSTED = "budget_exhausted"
    INTERNAL = "internal"
    PLANNING_FAILED = "planning_failed"


@dataclass(frozen=True, slots=True)
class RunFailure:
    """Why a run failed, and the same for people, with what to do next."""

    reason: RunFailureReason
    message: str


@dataclass(frozen=True, slots=True)
class RunLimits:
    """A run's limits, with DESIGN §5's defaults."""

    concurrency: int = 5
    retries: int = 3
    corrections: int = 3
    turns: int = 100
    attempt_timeout: timedelta = timedelta(minutes=30)
    test_timeout: timedelta = timedelta(seconds=300)
    run_timeout: timedelta = timedelta(hours=72)


@dataclass(frozen=True, slots=True)
class Check:
    """One distinct verification of a run: command, report and setup, on a worker of a role.

    `report_attempt` names the attempt whose test report is the baseline: the verify attempt
    of the base, then that of the last candidate merged. Empty: the base is not verified yet.
    `passes`: at least one test passed at the base.
    """

    key: int
    role: str
    verification: str
    report: str = ""
    setup: str = ""
    setup_paths: tuple[str, ...] = ()
    report_attempt: str = ""
    passes: bool = False


@dataclass(frozen=True, slots=True)
class PreviousAttempt:
    """How the attempt before ended, as the next one is told.

    `attempt_id` holds what it changed; `report_attempt` the test report that was red, its own or that of
    a candidate with its commit. Both may be empty.
    """

    outcome: Outcome
    message: str
    attempt_id: str = ""
    report_attempt: str = ""


@dataclass(frozen=True, slots=True)
class OwnCommit:
    """An attempt's pushed commit, the base it is judged against, and the tree it holds."""

    attempt_id: str
    commit: str
    base: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a run. `open_attempt` is the one that runs; `own` what it goes on from or is to be merged.

    `check` is None where nothing verifies its work.
    """

    spec: PlannedTask
    index: int
    check: int | None
    state: TaskState = TaskState.PENDING
    phase: Phase | None = None
    waiting_for: WaitingFor | None = None
    retry_time: datetime | None = None
    progress: int = 0
    agent_id: str = ""
    attempts: int = 0
    retries: int = 0
    endings: Mapping[Outcome, int] = field(default_factory=dict)
    previous: PreviousAttempt | None = None
    reason: Outcome | None = None
    message: str = ""
    open_attempt: str = ""
    own: OwnCommit | None = None
    alone: bool = False
    commit: str = ""

    @property
    def id(self) -> str:
        """The task's id."""
        return self.spec.id

    @property
    def merging(self) -> bool:
        """Whether its commit is in the merge queue."""
        return self.state is TaskState.IN_PROGRESS and self.phase is Phase.MERGING

    @property
    def order(self) -> tuple[int, int]:
        """Its place among ready tasks: priority, then plan order."""
        return (self.spec.priority, self.index)


class AttemptKind(enum.Enum):
    """What an attempt does."""

    TASK = "task"
    VERIFY = "verify"
    PLAN = "plan"


@dataclass(frozen=True, slots=True)
class Binding:
    """The worker that an attempt belongs to: every repeat goes to that address and incarnation only."""

    worker: str
    address: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Hold:
    """No task of a role that asks a model (empty: the workers' own) is dispatched: the provider asks to wait.

    `until` is the expected end; None where another attempt probes the provider first.
    """

    role: str
    model: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Planning:
    """A goal that has no plan yet, and what the attempts to make one came to."""

    attempts: int = 0
    retries: int = 0
    endings: Mapping[Outcome, int] = field(default_factory=dict)
    previous: PreviousAttempt | None = None
    retry_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt. `outcome` is None while it runs; `task_id` is empty but for a task's.

    A verification has the `check` that it runs and the `commit` it runs it on. An attempt
    that its worker did not start is `unbound` until it is bound again. `ordinal` orders the
    run's attempts as they were first bound.

    `usage` is what its notices told, then what its result does: `settled`. Of one that has no
    result, `estimate` is what it may have taken beyond that; until `asked_until` its worker is
    asked for the result.
    """

    id: str
    number: int
    kind: AttemptKind
    role: str
    binding: Binding
    request: bytes
    base: str
    bound_time: datetime
    task_id: str = ""
    check: int | None = None
    commit: str = ""
    ordinal: int = 0
    unbound: bool = False
    started: bool = False
    last_sequence: int = 0
    outcome: Outcome | None = None
    message: str = ""
    result: bytes = b""
    end_time: datetime | None = None
    allowance: Budget = NO_LIMIT
    usage: tuple[Usage, ...] = ()
    wall_time: timedelta = timedelta()
    settled: bool = False
    estimate: Charge = NOTHING
    asked_until: datetime | None = None

    @property
    def open(self) -> bool:
        """Whether a worker has it and it has not ended."""
        return self.outcome is None and not self.unbound

    @property
    def agent_id(self) -> str:
        """The agent that has it, `<worker>/<role>`."""
        return f"{self.binding.worker}/{self.role}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A merge being verified: commits of tasks, stacked on `onto`, pushed as `next/<number>`."""

    number: int
    onto: str
    commit: str
    tree: str
    tasks: tuple[str, ...]
    pending: tuple[int, ...]
    reds: int = 0
    inconclusive: int = 0


@dataclass(frozen=True, slots=True)
class Green:
    """A tree passed a check once; the attempt that ran it holds the report."""

    tree: str
    check: int
    attempt_id: str


@dataclass(frozen=True, slots=True)
class Integrating:
    """The head is being moved: journaled before the push, closed after it."""

    tasks: tuple[str, ...]
    start: str
    to: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run that is CANCELLING is to end."""

    state: RunPhase
    failure: RunFailure | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RoleScope:
    """What the project says of a role's write scope: in place of the role's own, and besides its own."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run is, as it was asked for; it never changes. `turn` is what one turn is taken to need."""

    run_id: str
    project: str
    request_id: str
    title: str
    repository: str
    base: str
    branch: str
    limits: RunLimits
    create_time: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    fail_unserved: bool = False
    scopes: Mapping[str, RoleScope] = field(default_factory=dict)
    goal: str = ""
    planner_model: str = ""
    budget: Budget = NO_LIMIT
    turn: Charge = NOTHING

    @property
    def deadline(self) -> datetime:
        """When its time is over."""
        return self.create_time + self.limits.run_timeout


@dataclass(frozen=True, slots=True)
class RunCore:
    """The part of a run that is not its tasks and attempts. `planning` is None once there is a plan."""

    phase: RunPhase
    head: str
    checks: tuple[Check, ...]
    term: int = 1
    ending: Ending | None = None
    planning: Planning | None = None
    candidate: Candidate | None = None
    integrating: Integrating | None = None
    candidates: int = 0
    verifications: int = 0
    green: tuple[Green, ...] = ()
    unserved: tuple[str, ...] = ()
    holds: tuple[Hold, ...] = ()
    usage: tuple[Usage, ...] = ()
    wall_time: timedelta = timedelta()
    estimated: Charge = NOTHING
    failure: RunFailure | None = None
    end_time: datetime | None = None


class Run:
    """The aggregate. Only `fold` changes it; `copy` gives a draft to decide on.

    Beside what is stored it keeps what would be slow to look up among 10,000 tasks: counts
    by state and of what completed UNVERIFIED, unmet dependencies, dependents, the ready tasks in order,
    the open attempts.
    All of these follow from the stored part. A draft's `touched_tasks` and
    `touched_attempts` name what differs from the run that it was copied from.
    """

    def __init__(
        self, facts: RunFacts, core: RunCore, tasks: Iterable[Task], attempts: Iterable[Attempt] = ()
    ) -> None:
        self.facts = facts
        self.core = core
        self.attempts = {attempt.id: attempt for attempt in attempts}
        self._asked = {attempt.id: None for attempt in self.attempts.values() if attempt.asked_until}
        self._open = {attempt.id: None for attempt in self.attempts.values() if attempt.open}
        self.touched_attempts: set[str] = set()
        self._lay_out(tasks)

    def _lay_out(self, tasks: Iterable[Task]) -> None:
        self.tasks = {task.id: task for task in tasks}
        self._model_asks = sorted({(task.spec.role, task.spec.model) for task in self.tasks.values()})
        self.dependents: dict[str, list[str]] = {}
        self.unmet: dict[str, int] = {}
        self.counts: Counter[TaskState] = Counter()
        self.unverified = 0
        self._ready: list[tuple[int, int, str]] = []
        self._retrying: dict[str, None] = {}
        self._merging: dict[str, None] = {}
        self.budgeted = self.facts.budget.limited
        self.touched_tasks: set[str] = set()
        for task in self.tasks.values():
            self.unmet[task.id] = sum(
                self.tasks[other].state is not TaskState.COMPLETED for other in task.spec.depends_on
            )
            for other in task.spec.depends_on:
                self.dependents.setdefault(other, []).append(task.id)
        for task in self.tasks.values():
            self.counts[task.state] += 1
            self.unverified += _completed_unverified(task)
            self.budgeted |= task.spec.budget.limited
            self._index(task)

    def adopt(self, tasks: Iterable[Task]) -> None:
        """Take the tasks of a plan that was made of the run's goal."""
        self._lay_out(tasks)

    def copy(self) -> "Run":
        """A draft: equal, and free to be changed. Shares what never changes."""
        draft = object.__new__(Run)
        draft.facts, draft.core, draft.dependents = self.facts, self.core, self.dependents
        draft._model_asks = self._model_asks
        draft.tasks, draft.attempts = dict(self.tasks), dict(self.attempts)
        draft.unmet, draft.counts = dict(self.unmet), self.counts.copy()
        draft.unverified = self.unverified
        draft._ready, draft._retrying = list(self._ready), dict(self._retrying)
        draft._merging, draft._open = dict(self._merging), dict(self._open)
        draft._asked, draft.budgeted = dict(self._asked), self.budgeted
        draft.touched_tasks, draft.touched_attempts = set(), set()
        return draft

    def put_task(self, task: Task) -> None:
        """Replace a task, keeping counts and order true."""
        before = self.tasks[task.id]
        self._unindex(before)
        self.tasks[task.id] = task
        self.touched_tasks.add(task.id)
        self.counts[before.state] -= 1
        self.counts[task.state] += 1
        self.unverified += _completed_unverified(task) - _completed_unverified(before)
        if task.state is TaskState.COMPLETED and before.state is not TaskState.COMPLETED:
            for dependent in self.dependents.get(task.id, ()):
                self._unindex(self.tasks[dependent])
                self.unmet[dependent] -= 1
                self._index(self.tasks[dependent])
        self._index(task)

    def put_attempt(self, attempt: Attempt) -> None:
        """Add or replace an attempt."""
        self.attempts[attempt.id] = attempt
        self.touched_attempts.add(attempt.id)
        if attempt.open:
            self._open[attempt.id] = None
        else:
            self._open.pop(attempt.id, None)
        if attempt.asked_until:
            self._asked[attempt.id] = None
        else:
            self._asked.pop(attempt.id, None)

    def update(self, **changes: object) -> None:
        """Replace fields of the core."""
        self.core = replace(self.core, **changes)  # type: ignore[arg-type]

    @property
    def ready(self) -> list[Task]:
        """PENDING tasks whose dependencies completed and whose retry time has come, in order."""
        return [self.tasks[task_id] for *_, task_id in self._ready]

    @property
    def retrying(self) -> list[Task]:
        """PENDING tasks that wait for an instant."""
        return [self.tasks[task_id] for task_id in self._retrying]

    @property
    def merging(self) -> list[Task]:
        """Tasks in the merge queue, in task order."""
        return sorted((self.tasks[task_id] for task_id in self._merging), key=lambda task: task.order)

    @property
    def open_attempts(self) -> list[Attempt]:
        """Attempts that have not ended, oldest first."""
        return [self.attempts[attempt_id] for attempt_id in self._open]

    @property
    def asked_attempts(self) -> list[Attempt]:
        """Lost attempts whose worker is still asked for their result."""
        return [self.attempts[attempt_id] for attempt_id in self._asked]

    @property
    def model_asks(self) -> list[tuple[str, str]]:
        """What tasks ask: their roles and models, each pair once, in order."""
        return self._model_asks

    def hold_on(self, task: Task) -> Hold | None:
        """What a task's provider asks, where it asks to wait."""
        asked = (task.spec.role, task.spec.model)
        return next((hold for hold in self.core.holds if (hold.role, hold.model) == asked), None)

    def open_verification(self, check: int, commit: str) -> Attempt | None:
        """The open attempt that runs a check on a commit, where there is one."""
        for attempt in self.open_attempts:
            if attempt.kind is AttemptKind.VERIFY and (attempt.check, attempt.commit) == (check, commit):
                return attempt
        return None

    def is_green(self, tree: str, check: int) -> bool:
        """Whether a tree passed a check before: it is not run again."""
        return any((green.tree, green.check) == (tree, check) for green in self.core.green)

    @property
    def all_final(self) -> bool:
        """Whether every task has ended."""
        return sum(self.counts[state] for state in _FINAL_TASK) == len(self.tasks)

    def _index(self, task: Task) -> None:
        if task.merging:
            self._merging[task.id] = None
        elif task.state is TaskState.PENDING and not self.unmet[task.id]:
            if task.waiting_for is WaitingFor.RETRY_TIME:
                self._retrying[task.id] = None
            else:
                bisect.insort(self._ready, (*task.order, task.id))

    def _unindex(self, task: Task) -> None:
        self._merging.pop(task.id, None)
        self._retrying.pop(task.id, None)
        entry = (*task.order, task.id)
        place = bisect.bisect_left(self._ready, entry)
        if place < len(self._ready) and self._ready[place] == entry:
            del self._ready[place]


def _completed_unverified(task: Task) -> bool:
    return task.state is TaskState.COMPLETED and task.spec.unverified
