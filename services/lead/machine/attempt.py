"""An attempt, and the worker that it is bound to."""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from codeframe.budget import NO_LIMIT, NOTHING, Budget, Charge
from services.lead.machine.outcome import Outcome
from services.lead.machine.usage import Usage


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
