"""The facts of a run, as the machine writes and folds them.

Public ones are broadcast; the records of the last section share the journal and its
revisions but are for leads alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from codeframe.budget import NO_LIMIT, Budget, Charge
from codeframe.plan import PlannedTask
from services.lead.machine.attempt import AttemptKind, Binding
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import Check, Ending, Hold, RunFacts, RunFailure, RunPhase
from services.lead.machine.task import OwnCommit, Phase, TaskState, WaitingFor
from services.lead.machine.usage import Usage

# ---- public: authored by the lead


@dataclass(frozen=True, slots=True)
class RunStatusChanged:
    """The run's state changed, or which roles it waits for."""

    state: RunPhase
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


# ---- public: authored by a worker, journaled by the lead


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


# ---- records: for leads alone


@dataclass(frozen=True, slots=True)
class RunCreated:
    """The run, as it was asked for, with every role and check decided; with a goal, none yet."""

    facts: RunFacts
    tasks: tuple[PlannedTask, ...]
    checks: tuple[Check, ...]
    check_of: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lead took the run over: writes under a lower term are fenced."""

    term: int
    owner: str


@dataclass(frozen=True, slots=True)
class AttemptBound:
    """An attempt belongs to a worker; its request's bytes are repeated to that address only."""

    attempt_id: str
    task_id: str
    number: int
    kind: AttemptKind
    role: str
    binding: Binding
    request: bytes
    base: str
    check: int | None
    commit: str
    time: datetime
    allowance: Budget = NO_LIMIT


@dataclass(frozen=True, slots=True)
class AttemptUnbound:
    """The attempt did not start there: it may be bound elsewhere, under the same id."""

    attempt_id: str
    message: str


@dataclass(frozen=True, slots=True)
class ResultRecorded:
    """What a worker returned, whole; the public attempt_ended comes with it."""

    attempt_id: str
    result: bytes


@dataclass(frozen=True, slots=True)
class UsageSettled:
    """What an attempt took, for good: its result tells it. In place of what its notices told."""

    attempt_id: str
    usage: tuple[Usage, ...]
    wall_time: timedelta


@dataclass(frozen=True, slots=True)
class UsageEstimated:
    """What an attempt may have taken beyond what its notices told; its worker is asked until then."""

    attempt_id: str
    estimate: Charge
    asked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """A task will be attempted again. `own` is what it goes on from; None: the head."""

    task_id: str
    reason: Outcome
    message: str
    costs_retry: bool
    own: OwnCommit | None
    attempt_id: str = ""
    report_attempt: str = ""


@dataclass(frozen=True, slots=True)
class CommitQueued:
    """A task's commit is in the merge queue. `tree` was verified green by its own attempt."""

    task_id: str
    own: OwnCommit
    tree: str


@dataclass(frozen=True, slots=True)
class QueuedAlone:
    """A task is merged singly from here on: what it was stacked with was red twice."""

    task_id: str


@dataclass(frozen=True, slots=True)
class CandidateMade:
    """A candidate was stacked and pushed; `pending` are the checks it must still pass."""

    number: int
    onto: str
    commit: str
    tree: str
    tasks: tuple[str, ...]
    pending: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CandidateChecked:
    """A verify attempt of the candidate ended: green, red, or saying nothing (None)."""

    check: int
    green: bool | None
    attempt_id: str


@dataclass(frozen=True, slots=True)
class CandidateDropped:
    """The candidate is no more: it was red, or its run is ending."""

    number: int


@dataclass(frozen=True, slots=True)
class BaseVerified:
    """A check's baseline: the attempt whose test report it is, and whether a test passed there."""

    check: int
    attempt_id: str
    passes: bool = False


@dataclass(frozen=True, slots=True)
class IntegratingOpened:
    """The head is about to be moved. After this, a cancel comes too late for those tasks."""

    tasks: tuple[str, ...]
    start: str
    to: str


@dataclass(frozen=True, slots=True)
class IntegratingClosed:
    """The head was moved, or somebody else moved it (`moved` False)."""

    moved: bool


@dataclass(frozen=True, slots=True)
class EndingAsked:
    """The run is to end so; the first wish wins."""

    ending: Ending


@dataclass(frozen=True, slots=True)
class PlanAdopted:
    """The run goes on with the plan that an attempt made: every role and check of it is decided."""

    attempt_id: str
    tasks: tuple[PlannedTask, ...]
    checks: tuple[Check, ...]
    check_of: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PlanRetryScheduled:
    """A plan will be tried for again, at `retry_time`; None: at once."""

    reason: Outcome
    message: str
    costs_retry: bool
    retry_time: datetime | None


@dataclass(frozen=True, slots=True)
class PlanRetryDue:
    """That instant has come."""


@dataclass(frozen=True, slots=True)
class ProvidersHeld:
    """What the run's tasks ask and must wait for now."""

    holds: tuple[Hold, ...]


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
PrivateRecord = (
    RunCreated
    | Claimed
    | AttemptBound
    | AttemptUnbound
    | ResultRecorded
    | UsageSettled
    | UsageEstimated
    | RetryScheduled
    | CommitQueued
    | QueuedAlone
    | CandidateMade
    | CandidateChecked
    | CandidateDropped
    | BaseVerified
    | IntegratingOpened
    | IntegratingClosed
    | EndingAsked
    | PlanAdopted
    | PlanRetryScheduled
    | PlanRetryDue
    | ProvidersHeld
)
Event = PublicEvent | PrivateRecord
