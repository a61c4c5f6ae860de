"""What an attempt broadcasts, and the one awaited call that does it."""

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from services.workers.work import ModelUsage


class Phase(enum.Enum):
    """What is being done for a task that is IN_PROGRESS."""

    SETUP = "setup"
    WORKING = "working"
    VERIFYING = "verifying"
    CORRECTING = "correcting"


class CorrectionStatus(enum.Enum):
    """Where a correction stands."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TaskInProgress:
    """The task is IN_PROGRESS: progress 10 started, 80 verifying."""

    phase: Phase
    progress: int


@dataclass(frozen=True, slots=True)
class Activity:
    """Something worth a line in a log. `kind` is tool, setup, model, git or verification."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class TestsRan:
    """A verification ended; `duration` is how long its command ran."""

    passed: int
    failed: int
    errors: int
    skipped: int
    duration: timedelta
    green: bool


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction started or ended; `error_summary` is set as it starts."""

    number: int
    limit: int
    status: CorrectionStatus
    error_summary: str | None = None


@dataclass(frozen=True, slots=True)
class TurnPaid:
    """A model turn was paid; `turn` counts from 1 in its attempt."""

    turn: int
    usage: ModelUsage
    provider_request_id: str
    duration: timedelta


Notice = TaskInProgress | Activity | TestsRan | Correction | TurnPaid


class Broadcast(Protocol):
    """An attempt's way to tell the world."""

    async def __call__(self, notice: Notice) -> None:
        """Return once the notice has its sequence in the attempt's log.

        Raises AttemptFailed (LIMIT_EXCEEDED) where the log is full.
        """
        ...
