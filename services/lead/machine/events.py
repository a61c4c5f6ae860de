"""The facts of a run that are broadcast, as the machine writes and folds them.

Those for leads alone are private_records; an Event is either.
"""

from dataclasses import dataclass
from datetime import datetime

from codeframe.plan import PlannedTask
from services.lead.machine.attempt import AttemptKind
from services.lead.machine.outcome import Outcome
from services.lead.machine.private_records import PrivateRecord
from services.lead.machine.state import RunFailure, RunState
from services.lead.machine.task import Phase, TaskState, WaitingFor
from services.lead.machine.usage import Usage

# ---- authored by the lead


@dataclass(frozen=True, slots=True)
class RunStatusChanged:
    """The run's state changed, or which roles it waits for."""

    state: RunState
    failure: RunFailure | None = None
    branch: str = ""
    head: str = ""
    unserved: tuple[str, ...] = ()
    unserved_reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskStatusChanged:
    """A task's state, phase or progress changed. `unverified` is told of what is merged, or was."""

    task_id: str
    state: TaskState
    agent_id: str | None = None
    progress: int | None = None
    phase: Phase | None = None
    waiting_for: WaitingFor | None = None
    reason: Outcome | None = None
    message: str = ""
    retry_time: datetime | None = None
    unverified: bool = False


@dataclass(frozen=True, slots=True)
class TaskAssigned:
    """A task was given to an agent."""

    task_id: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class TaskBlocked:
    """A task waits for others; its state stays PENDING."""

    task_id: str
    blocked_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskUnblocked:
    """A task's dependencies completed."""

    task_id: str
    unblocked_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgentWorking:
    """An agent works on a task of this run (agent_status_changed)."""

    agent_id: str
    task_id: str
    progress: int


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """The run's counts changed."""

    completed: int
    failed: int
    total: int
    unverified: int = 0


@dataclass(frozen=True, slots=True)
class CommitCreated:
    """A task's commit was pushed."""

    task_id: str
    commit: str
    message: str
    files: tuple[str, ...]
    file_count: int


@dataclass(frozen=True, slots=True)
class ArtifactHeld:
    """An artifact that the lead has copied."""

    name: str
    media_type: str
    size: int
    sha256: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class PlanProposed:
    """A plan was made of the run's goal; `artifact` holds the whole of it."""

    attempt_id: str
    title: str
    tasks: tuple[PlannedTask, ...]
    artifact: ArtifactHeld


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A worker took an attempt."""

    attempt_id: str
    task_id: str
    number: int
    kind: AttemptKind
    agent_id: str
    base: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt ended; told once for each. `unverified`: nothing verified its task's work."""

    attempt_id: str
    task_id: str
    number: int
    kind: AttemptKind
    outcome: Outcome
    message: str
    commit: str
    last_sequence: int
    corrections: int = 0
    artifacts: tuple[ArtifactHeld, ...] = ()
    unverified: bool = False


# ---- authored by a worker, journaled by the lead


@dataclass(frozen=True, slots=True)
class Noticed:
    """A worker's notice. `payload` is the public payload's bytes under its `kind`.

    What the machine folds of it is taken out: phase and progress of a
    task_status_changed, the usage of a usage_recorded.
    """

    attempt_id: str
    sequence: int
    time: datetime
    kind: str
    payload: bytes
    phase: Phase | None = None
    progress: int | None = None
    usage: Usage | None = None


PublicEvent = (
    RunStatusChanged
    | TaskStatusChanged
    | TaskAssigned
    | TaskBlocked
    | TaskUnblocked
    | AgentWorking
    | ProgressUpdate
    | CommitCreated
    | PlanProposed
    | AttemptStarted
    | AttemptEnded
    | Noticed
)
Event = PublicEvent | PrivateRecord
