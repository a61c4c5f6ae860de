"""Which commands should be under way, read from a run's state. Level-triggered: after a
crash the same state wants the same commands, and each is idempotent."""

from dataclasses import dataclass
from datetime import datetime

from codeframe.budget import NO_LIMIT, Budget
from codeframe.plan import PLANNER
from services.lead.machine.allowance import Shares, is_paid
from services.lead.machine.attempt import Attempt, AttemptKind
from services.lead.machine.run import Run
from services.lead.machine.state import Integrating, Planning, RunState
from services.lead.machine.task import OwnCommit, PreviousAttempt, TaskState


@dataclass(frozen=True, slots=True)
class Placement:
    """An attempt that wants a worker of a role. The conductor asks the fleet, in this order.

    `base` is the commit it is judged against, `start` the one it goes on from (empty: the base);
    a verification has the `commit` that it checks out. Planning, and a task that nothing verifies, has no
    `check`. `model` is what it asks, empty for its worker's own; a verification asks none.
    """

    attempt_id: str
    kind: AttemptKind
    role: str
    number: int
    check: int | None = None
    task_id: str = ""
    base: str = ""
    start: str = ""
    commit: str = ""
    previous: PreviousAttempt | None = None
    allowance: Budget = NO_LIMIT
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """Await an open attempt's ExecuteTask and read its notices, where it is bound."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class CancelAttempt:
    """Have an open attempt's worker cancel it; its Follow reads how it ended."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class AskLost:
    """Have a lost attempt's worker, should it live, end it and tell what it took."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class StackCandidate:
    """Stack these commits, in order, on the head, and push the candidate."""

    number: int
    onto: str
    commits: tuple[tuple[str, OwnCommit], ...]


@dataclass(frozen=True, slots=True)
class PushHead:
    """Move the head for the open `integrating`, by compare-and-swap."""

    integrating: Integrating


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Read the clock then."""

    time: datetime


Command = Follow | CancelAttempt | AskLost | StackCandidate | PushHead | WakeAt


def commands(run: Run) -> set[Command]:
    """Every command that should be under way now, but for placements."""
    core = run.core
    if core.state.final:
        return set()
    found: set[Command] = {Follow(attempt.id) for attempt in run.open_attempts}
    found |= {CancelAttempt(attempt.id) for attempt in run.open_attempts if _pointless(run, attempt)}
    found |= {AskLost(attempt.id) for attempt in run.asked_attempts}
    if core.integrating:
        found.add(PushHead(core.integrating))
    if core.state is RunState.CANCELLING:
        return found | {CancelAttempt(attempt.id) for attempt in run.open_attempts}
    instants = [task.retry_time for task in run.retrying if task.retry_time]
    if core.planning and core.planning.retry_time:
        instants.append(core.planning.retry_time)
    instants += [attempt.asked_until for attempt in run.asked_attempts if attempt.asked_until]
    found.add(WakeAt(min([run.facts.deadline, *instants])))
    if run.merging and not core.integrating and not core.candidate:
        found.add(_stack(run))
    return found


def _pointless(run: Run, attempt: Attempt) -> bool:
    """Whether nobody waits for an attempt any more: its candidate was dropped."""
    if attempt.kind is not AttemptKind.VERIFY or run.core.state is RunState.PLANNING:
        return False
    candidate = run.core.candidate
    return not candidate or attempt.commit != candidate.commit


def _stack(run: Run) -> StackCandidate:
    alone = [task for task in run.merging if task.alone]
    chosen = alone[:1] or run.merging
    return StackCandidate(
        number=run.core.candidates + 1,
        onto=run.core.head,
        commits=tuple((task.id, task.own) for task in chosen if task.own),
    )


def placements(run: Run) -> list[Placement]:
    """Attempts that want a worker now, first things first: verifications, then ready tasks in
    order (priority, then plan order), up to the run's concurrency and within its budget."""
    if run.core.state.final or run.core.state is RunState.CANCELLING:
        return []
    if run.core.planning:
        return _plan(run, run.core.planning)
    found = _verifications(run)
    if run.core.state is RunState.PLANNING:
        return found
    slots = run.facts.limits.concurrency - sum(is_paid(attempt) for attempt in run.open_attempts)
    shares = Shares.of(run, slots, wanting=run.counts[TaskState.PENDING])
    for task in run.ready:
        if slots <= 0 or shares.is_dry:
            break
        allowance = shares.take(task)
        if allowance is None:
            continue
        slots -= 1
        own = task.own
        found.append(
            Placement(
                attempt_id=f"{run.facts.run_id}.{task.id}.{task.attempts + 1}",
                kind=AttemptKind.TASK,
                role=task.spec.role,
                number=task.attempts + 1,
                check=task.check,
                task_id=task.id,
                base=own.base if own else run.core.head,
                start=own.commit if own else "",
                previous=task.previous,
                allowance=allowance,
                model=task.spec.model,
            )
        )
    return found


def asked_model(run: Run, attempt: Attempt) -> str | None:
    """The model that an attempt asks, as its placement said."""
    match attempt.kind:
        case AttemptKind.TASK:
            return run.tasks[attempt.task_id].spec.model
        case AttemptKind.PLAN:
            return run.facts.planner_model
        case AttemptKind.VERIFY:
            return None


def _plan(run: Run, planning: Planning) -> list[Placement]:
    """The attempt that makes a plan of the run's goal, unless one is under way or it is to wait."""
    if planning.retry_time or run.open_attempts:
        return []
    shares = Shares.of(run, slots=1, wanting=1)
    if shares.is_dry:
        return []
    number = planning.attempts + 1
    return [
        Placement(
            attempt_id=f"{run.facts.run_id}.plan-{number}",  # never a task's
            kind=AttemptKind.PLAN,
            role=PLANNER,
            number=number,
            base=run.facts.base,
            previous=planning.previous,
            allowance=shares.rest,
            model=run.facts.planner_model,
        )
    ]


def _verifications(run: Run) -> list[Placement]:
    core = run.core
    if core.state is RunState.PLANNING:
        commit, keys = run.facts.base, [check.key for check in core.checks if not check.report_attempt]
    elif core.candidate:
        commit, keys = core.candidate.commit, list(core.candidate.pending)
    else:
        return []
    wanting = [key for key in keys if not run.open_verification(key, commit)]
    return [
        Placement(
            attempt_id=f"{run.facts.run_id}.verify-{core.verifications + place}",  # never a task's
            kind=AttemptKind.VERIFY,
            role=core.checks[key].role,
            number=core.verifications + place,
            check=key,
            base=core.head,
            commit=commit,
        )
        for place, key in enumerate(wanting, start=1)
    ]
