"""A goal's way to a plan: attempts of the role planner, until one makes a plan or no more may."""

from datetime import datetime

from services.lead.machine import events as e
from services.lead.machine import happenings as h
from services.lead.machine import private_records as r
from services.lead.machine.draft import Draft, clip
from services.lead.machine.ending import ask_end
from services.lead.machine.outcome import Outcome, what_follows
from services.lead.machine.state import Ending, RunFailure, RunFailureReason, RunState


def adopt(draft: Draft, planned: h.Planned) -> None:
    """The run goes on as if it had been given this plan."""
    if draft.run.core.state is not RunState.PLANNING:
        return
    attempt_id = planned.ended.attempt_id
    draft.emit(
        e.PlanProposed(attempt_id, planned.title, planned.tasks, planned.artifact),
        r.PlanAdopted(attempt_id, planned.tasks, planned.checks, planned.check_of),
    )
    draft.tell_tasks()


def ended(draft: Draft, ending: h.Ended) -> None:
    """Try for a plan again, where `what_follows` says so; else the run has FAILED."""
    run, planning = draft.run, draft.run.core.planning
    if not planning or run.core.state is not RunState.PLANNING:
        return
    times = planning.endings.get(ending.outcome, 0) + 1
    again = what_follows(ending.outcome, times, planning.retries, run.facts.limits.retries)
    if again:
        retry_time = draft.time + again.pause if again.pause else None
        draft.emit(r.PlanRetryScheduled(ending.outcome, ending.message, again.costs_retry, retry_time))
        return
    rejected = ending.outcome is Outcome.PROVIDER_REJECTED
    mend = "mend that, and ask again" if rejected else "say more of what is wanted, or give a plan"
    why = clip(ending.message.partition("\n")[0])  # what follows is said to the model
    message = f"no plan could be made of the goal ({ending.outcome.name}): {why}; {mend}"
    ask_end(
        draft,
        Ending(RunState.FAILED, RunFailure(RunFailureReason.PLANNING_FAILED, message), message),
    )


def retry_if_due(draft: Draft, now: datetime) -> None:
    """The instant of the next attempt may have come."""
    planning = draft.run.core.planning
    if planning and planning.retry_time and planning.retry_time <= now:
        draft.emit(r.PlanRetryDue())
