"""What the conductor tells the machine. Each carries its instant: the machine has no clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from codeframe.plan import PlannedTask
from services.lead.machine.attempt import Binding
from services.lead.machine.events import ArtifactHeld, Noticed
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import Check, Ending, Hold
from services.lead.machine.usage import Usage
from services.lead.machine.wanted import Placement


@dataclass(frozen=True, slots=True)
class Bound:
    """A placement got a worker. Journaled before ExecuteTask is sent."""

    placement: Placement
    binding: Binding
    request: bytes
    time: datetime


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The worker answered that it did not start the attempt (no free slot, draining, ...)."""

    attempt_id: str
    message: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Notices:
    """Notices of one attempt, in order, each newer than what is journaled; empty: the worker took it."""

    attempt_id: str
    notices: tuple[Noticed, ...]
    time: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt ended. All its notices up to `last_sequence` are journaled, its artifacts held.

    `commit` is its own, pushed; for LOST the tip that its worker pushed, or empty. `tree` is
    the commit's tree. `passed` counts the tests that passed in its last verification.
    `usage` and `wall_time` are the result's; without one, `is_dead` says that nothing of the
    attempt runs any more.
    """

    attempt_id: str
    outcome: Outcome
    message: str
    time: datetime
    result: bytes = b""
    commit: str = ""
    base: str = ""
    tree: str = ""
    commit_subject: str = ""
    files: tuple[str, ...] = ()
    file_count: int = 0
    corrections: int = 0
    passed: int = 0
    artifacts: tuple[ArtifactHeld, ...] = ()
    usage: tuple[Usage, ...] = ()
    wall_time: timedelta = timedelta()
    is_dead: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The worker of a lost attempt was heard of again: it told what the attempt took, or (`is_dead`)
    that it died with an earlier process, or neither: it never heard of it."""

    attempt_id: str
    time: datetime
    usage: tuple[Usage, ...] = ()
    wall_time: timedelta = timedelta()
    is_dead: bool = False
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Planned:
    """A planning attempt ended well: its plan was judged, its roles and checks decided.

    `artifact` holds the plan; `served` are the roles that some worker serves now.
    """

    ended: Ended
    title: str
    tasks: tuple[PlannedTask, ...]
    checks: tuple[Check, ...]
    check_of: Mapping[str, int]
    artifact: ArtifactHeld
    served: frozenset[str]

    @property
    def time(self) -> datetime:
        """When the attempt ended."""
        return self.ended.time


@dataclass(frozen=True, slots=True)
class Stacked:
    """The integrator stacked waiting commits on the head and pushed them as `next/<number>`.

    `conflicts` maps a task whose commit conflicts with the head to the conflict's text. A
    task in neither waits for the next candidate. With no `tasks`, nothing was pushed.
    """

    number: int
    onto: str
    commit: str
    tree: str
    tasks: tuple[str, ...]
    conflicts: Mapping[str, str]
    time: datetime


@dataclass(frozen=True, slots=True)
class HeadPushed:
    """The head was moved to the open `integrating`, or (`moved` False) somebody else moved it."""

    moved: bool
    time: datetime


@dataclass(frozen=True, slots=True)
class EndAsked:
    """The run is to end: a cancel, its timeout, a role that nobody serves, a fault of the lead's."""

    ending: Ending
    time: datetime


@dataclass(frozen=True, slots=True)
class RolesServed:
    """Which roles some worker serves now.

    `lacks` is what workers that have other roles said they lack for them, by role.
    """

    roles: frozenset[str]
    time: datetime
    lacks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProvidersHeld:
    """Which of what the run's tasks ask must be waited for now."""

    holds: tuple[Hold, ...]
    time: datetime


@dataclass(frozen=True, slots=True)
class ClockRead:
    """The clock: retries fall due, the run's time is over."""

    time: datetime


Happening = (
    Bound
    | NotStarted
    | Notices
    | Ended
    | Planned
    | Answered
    | Stacked
    | HeadPushed
    | EndAsked
    | RolesServed
    | ProvidersHeld
    | ClockRead
)
