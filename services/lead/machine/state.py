"""What the machine knows of a run beside its tasks and attempts: frozen values."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from codeframe.budget import NO_LIMIT, NOTHING, Budget, Charge
from services.lead.machine.outcome import Outcome
from services.lead.machine.task import PreviousAttempt
from services.lead.machine.usage import Usage


class RunState(enum.Enum):
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


_FINAL_RUN = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED})


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
    """A run's limits, with their defaults."""

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

    state: RunState
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

    state: RunState
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
    unserved_reason: str = ""
    holds: tuple[Hold, ...] = ()
    usage: tuple[Usage, ...] = ()
    wall_time: timedelta = timedelta()
    estimated: Charge = NOTHING
    failure: RunFailure | None = None
    end_time: datetime | None = None
