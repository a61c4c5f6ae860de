"""What becomes of a task whose attempt did not bring it to its end: another attempt, or its end."""

from services.lead.machine import events as e
from services.lead.machine import private_records as r
from services.lead.machine.draft import Draft, clip
from services.lead.machine.outcome import Outcome, StartFrom, what_follows
from services.lead.machine.task import OwnCommit, Task, TaskState, WaitingFor


def again_or_failed(
    draft: Draft,
    task: Task,
    outcome: Outcome,
    message: str,
    own: OwnCommit | None,
    *,
    attempt_id: str = "",
    report_attempt: str = "",
) -> None:
    """Attempt a task again, where `what_follows` says so; else it has FAILED, and its dependents are SKIPPED.

    The next attempt is told what `attempt_id` changed, and the red tests of `report_attempt`.
    """
    times = task.endings.get(outcome, 0) + 1
    again = what_follows(outcome, times, task.retries, draft.run.facts.limits.retries)
    if again is None:
        fail(draft, task, outcome, message)
        return
    kept = own if again.start is StartFrom.OWN_COMMIT else None
    draft.emit(
        r.RetryScheduled(task.id, outcome, message, again.costs_retry, kept, attempt_id, report_attempt)
    )
    if again.pause:
        draft.emit(
            e.TaskStatusChanged(
                task.id,
                TaskState.PENDING,
                waiting_for=WaitingFor.RETRY_TIME,
                reason=outcome,
                message=clip(message),
                retry_time=draft.time + again.pause,
            )
        )
    else:
        draft.tell_ready(draft.run.tasks[task.id], message)


def fail(draft: Draft, task: Task, outcome: Outcome, message: str) -> None:
    """A task is not attempted again; what depends on it is SKIPPED."""
    run = draft.run
    draft.emit(e.TaskStatusChanged(task.id, TaskState.FAILED, reason=outcome, message=clip(message)))
    beyond = list(run.dependents.get(task.id, ()))
    while beyond:
        dependent = run.tasks[beyond.pop()]
        if dependent.state.final:
            continue
        draft.emit(
            e.TaskStatusChanged(
                dependent.id, TaskState.SKIPPED, message=f"{task.id}, which it depends on, did not complete"
            )
        )
        beyond.extend(run.dependents.get(dependent.id, ()))
    draft.tell_progress()
