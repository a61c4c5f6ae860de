"""What attempts spent, as it becomes known; and what follows for a run that has a budget."""

from dataclasses import replace
from datetime import datetime

from codeframe.budget import NOTHING, Charge
from services.lead.machine import happenings as h
from services.lead.machine import private_records as r
from services.lead.machine.allowance import (
    ASKED_FOR,
    charged,
    estimate_lost,
    is_exhausted,
    is_overdrawn,
    is_paid,
    is_spent,
    runs_dry,
    task_charged,
    unknown_cost,
)
from services.lead.machine.attempt import Attempt
from services.lead.machine.draft import Draft
from services.lead.machine.ending import ask_end
from services.lead.machine.outcome import Outcome
from services.lead.machine.retry import fail
from services.lead.machine.run import Run
from services.lead.machine.state import Ending, RunFailure, RunFailureReason, RunState
from services.lead.machine.task import WaitingFor
from services.lead.machine.usage import charge_of

TOLD = 5
"""How many tasks a message names."""


def ended(draft: Draft, attempt: Attempt, end: h.Ended) -> None:
    """Settle what an attempt took by its result; without one, estimate it."""
    if not is_paid(attempt):
        return
    if end.result:
        draft.emit(r.UsageSettled(attempt.id, end.usage, end.wall_time))
        _charge_unknown_cost(draft, attempt.id)
    else:
        _estimate(draft, attempt, end.time, is_dead=end.is_dead)


def answered(draft: Draft, answer: h.Answered) -> None:
    """A lost attempt's worker was heard of again: what it says settles the account, and nothing else."""
    attempt = draft.run.attempts.get(answer.attempt_id)
    if not attempt or not attempt.asked_until:
        return
    if answer.is_dead:
        _estimate(draft, attempt, attempt.end_time or answer.time, is_dead=True)
    elif answer.is_known:
        draft.emit(r.UsageSettled(attempt.id, answer.usage, answer.wall_time))
        _charge_unknown_cost(draft, attempt.id)
    else:
        draft.emit(r.UsageSettled(attempt.id, attempt.usage, attempt.wall_time))


def _estimate(draft: Draft, attempt: Attempt, time: datetime, *, is_dead: bool) -> None:
    elapsed = max(time - attempt.bound_time, attempt.wall_time)
    estimate = estimate_lost(draft.run, attempt, is_dead=is_dead, elapsed=elapsed)
    draft.emit(r.UsageEstimated(attempt.id, estimate, None if is_dead else time + ASKED_FOR))


def _charge_unknown_cost(draft: Draft, attempt_id: str) -> None:
    cost = unknown_cost(draft.run.attempts[attempt_id])
    if cost != NOTHING:
        draft.emit(r.UsageEstimated(attempt_id, cost))


def stop_asking(draft: Draft, now: datetime) -> None:
    """Lost attempts whose workers were asked for long enough: what is estimated stays so."""
    for attempt in draft.run.asked_attempts:
        if attempt.asked_until and attempt.asked_until <= now:
            draft.emit(r.UsageEstimated(attempt.id, attempt.estimate))


def believed(run: Run, attempt: Attempt, end: h.Ended) -> h.Ended:
    """An ending as told, but that an allowance which is not spent, by its own result, is a worker's fault.

    So each attempt that ends so takes some of the budget, and the last one all of it.
    """
    took = charge_of(end.usage) + Charge(wall_time=end.wall_time)
    if end.outcome is not Outcome.ALLOWANCE_SPENT or attempt.allowance.is_spent_by(took):
        return end
    message = "the worker told that the allowance is spent, and it is not: a fault of its own"
    return replace(end, outcome=Outcome.INTERNAL, message=message)


def settle(draft: Draft) -> None:
    """Take the steps that the budget demands: tasks fail or wait, and the run ends where all is spent."""
    run = draft.run
    if not run.budgeted or run.core.state.final or run.core.ending:
        return
    if run.core.planning and is_exhausted(run):
        _end_exhausted(draft)
    if run.core.state is not RunState.RUNNING:
        return
    for task in run.ready:
        if is_spent(run, task):
            spent = task.spec.budget.described(task_charged(run, task))
            message = f"the task's budget is spent: {spent}{_kept(run, [task.id])}"
            fail(draft, task, Outcome.ALLOWANCE_SPENT, message)
    needs_more = run.ready or run.retrying
    if needs_more and is_exhausted(run) and not run.merging and not run.core.integrating:
        _end_exhausted(draft)
        return
    is_dry = run.facts.budget.limited and runs_dry(run)
    for task in run.ready:
        waits = is_dry or is_overdrawn(run, task)
        if waits != (task.waiting_for is WaitingFor.BUDGET):
            draft.tell_ready(task, task.message)


def _end_exhausted(draft: Draft) -> None:
    run = draft.run
    spent = run.facts.budget.described(charged(run))
    waiting = [task.id for task in (*run.ready, *run.retrying)]
    message = (
        f"the budget is spent: {spent}. What completed is on {run.facts.branch}{_kept(run, waiting)}; "
        "create the run again with a larger budget"
    )
    failure = RunFailure(RunFailureReason.BUDGET_EXHAUSTED, message)
    ask_end(draft, Ending(RunState.FAILED, failure, "the run's budget is spent"))


def _kept(run: Run, task_ids: list[str]) -> str:
    """Where the work so far of tasks is, in a clause."""
    own = {task_id: run.tasks[task_id].own for task_id in task_ids}
    kept = [f"{task_id} ({commit.commit[:12]})" for task_id, commit in own.items() if commit]
    if not kept:
        return ""
    more = f" and {len(kept) - TOLD} more" if len(kept) > TOLD else ""
    return f"; the work so far is on the last attempts' branches: {', '.join(kept[:TOLD])}{more}"
