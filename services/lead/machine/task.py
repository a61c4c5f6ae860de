"""A task of a run, as the machine knows it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from codeframe.plan import PlannedTask
from services.lead.machine.outcome import Outcome


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
    """An attempt's pushed commit, and the base it is judged against."""

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
