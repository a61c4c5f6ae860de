"""The facts of a run that are for leads alone, in the same journal as its events, under the same revisions.

Their names and fields are what the journal stores, and are read again for as long as a run is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from codeframe.budget import NO_LIMIT, Budget, Charge
from codeframe.plan import PlannedTask
from services.lead.machine.attempt import AttemptKind, Binding
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import Check, Ending, Hold, RunFacts
from services.lead.machine.task import OwnCommit
from services.lead.machine.usage import Usage


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
