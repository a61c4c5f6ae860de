"""Allowances: reserved as an attempt is bound, settled as it ends, never more than is left.

A run's budget is passed by at most the model call in flight of each attempt that runs, because
what is spent and what open attempts may still spend are within it whenever one more is bound.
"""

from dataclasses import dataclass
from datetime import timedelta

from codeframe.budget import NOTHING, Budget, Charge
from services.lead.machine.attempt import Attempt, AttemptKind
from services.lead.machine.run import Run
from services.lead.machine.task import Task
from services.lead.machine.usage import charge_of

ASKED_FOR = timedelta(minutes=10)
"""How long a lost attempt's worker is asked for its result: the orphan grace, which ends it."""


def charged(run: Run) -> Charge:
    """What counts against a run's budget: what its attempts took, and what is estimated."""
    core = run.core
    return charge_of(core.usage) + Charge(wall_time=core.wall_time) + core.estimated


def reserved(run: Run) -> Charge:
    """What the open attempts may still spend, as far as it is limited."""
    total = NOTHING
    for attempt in run.open_attempts:
        total += attempt.allowance.beyond(charge_of(attempt.usage), otherwise=NOTHING)
    return total


def task_charged(run: Run, task: Task) -> Charge:
    """What counts against a task's own budget, over all its attempts."""
    total = NOTHING
    for number in range(1, task.attempts + 1):
        if attempt := run.attempts.get(f"{run.facts.run_id}.{task.id}.{number}"):
            total += charge_of(attempt.usage) + Charge(wall_time=attempt.wall_time) + attempt.estimate
    return total


def is_overdrawn(run: Run, task: Task) -> bool:
    """Whether a task's own budget is spent, as far as is known or estimated."""
    return task.spec.budget.limited and task.spec.budget.is_spent_by(task_charged(run, task))


def is_spent(run: Run, task: Task) -> bool:
    """Whether a task's own budget is spent, for good: nothing that is estimated can turn out to be less."""
    return is_overdrawn(run, task) and not any(attempt.task_id == task.id for attempt in run.asked_attempts)


def runs_dry(run: Run) -> bool:
    """Whether no attempt can be bound now: the budget leaves too little until others settle, or nothing."""
    rest = run.facts.budget.rest(charged(run) + reserved(run))
    return rest.is_spent_by(NOTHING) or (rest.is_below(run.facts.turn) and _will_settle(run))


def waits_for_budget(run: Run, task: Task) -> bool:
    """Whether a task that may start cannot, for want of an allowance."""
    return (run.facts.budget.limited and runs_dry(run)) or is_overdrawn(run, task)


def is_exhausted(run: Run) -> bool:
    """Whether the budget is spent, and nothing under way can change that."""
    return run.facts.budget.is_spent_by(charged(run)) and not _will_settle(run)


def _will_settle(run: Run) -> bool:
    """Whether anything is reserved, or estimated and asked for."""
    return bool(run.asked_attempts) or any(is_paid(attempt) for attempt in run.open_attempts)


def is_paid(attempt: Attempt) -> bool:
    """Whether an attempt asks a model."""
    return attempt.kind is not AttemptKind.VERIFY


def estimate_lost(run: Run, attempt: Attempt, *, is_dead: bool, elapsed: timedelta) -> Charge:
    """What a lost attempt may have taken beyond what its notices recorded.

    One turn's maximum where its process is dead. Where it may be alive, all of its allowance.
    """
    turn = run.facts.turn
    most = Charge(turn.tokens, turn.cost_micros, turn.turns, elapsed)
    if is_dead:
        return most
    return attempt.allowance.beyond(charge_of(attempt.usage), otherwise=most)


def unknown_cost(attempt: Attempt) -> Charge:
    """What is charged for calls whose price is not known: the rest of its allowance of dollars."""
    limit = attempt.allowance.cost_micros
    if limit is None or all(usage.cost_known for usage in attempt.usage):
        return NOTHING
    return Charge(cost_micros=max(0, limit - charge_of(attempt.usage).cost_micros))


@dataclass(slots=True)
class Shares:
    """Allowances for the next attempts of a run, one after the other."""

    run: Run
    rest: Budget
    settling: bool
    ways: int

    @classmethod
    def of(cls, run: Run, slots: int, wanting: int) -> "Shares":
        """Where so many slots are free, and so many tasks may still want one."""
        rest = run.facts.budget
        if rest.limited:
            rest = rest.rest(charged(run) + reserved(run))
        return cls(run, rest, _will_settle(run), max(1, min(slots, wanting)))

    @property
    def is_dry(self) -> bool:
        """Whether too little is left for one more."""
        return self.rest.is_spent_by(NOTHING) or (self.settling and self.rest.is_below(self.run.facts.turn))

    def take(self, task: Task) -> Budget | None:
        """The allowance of a task's next attempt; None where its own budget has none."""
        share = self.rest.share(self.ways, self.run.facts.turn)
        if task.spec.budget.limited:
            share = share.least(task.spec.budget.rest(task_charged(self.run, task)))
        if share.is_spent_by(NOTHING):
            return None
        self.rest = self.rest.rest(share.beyond(NOTHING, otherwise=NOTHING))
        self.settling, self.ways = True, max(1, self.ways - 1)
        return share
