"""How a run ends: by itself when every task has, or CANCELLING first when it is told to."""

from services.lead.machine import events as e
from services.lead.machine import private_records as r
from services.lead.machine.draft import Draft
from services.lead.machine.state import Ending, RunFailure, RunFailureReason, RunState
from services.lead.machine.task import TaskState


def ask_end(draft: Draft, ending: Ending) -> None:
    """The run is to end so, once its attempts have ended. The first wish wins."""
    if not draft.run.core.ending:
        draft.emit(r.EndingAsked(ending))


def fail_internally(draft: Draft, message: str) -> None:
    """The run cannot go on, for a reason that is nobody's but ours."""
    ask_end(draft, Ending(RunState.FAILED, RunFailure(RunFailureReason.INTERNAL, message), message))


def settle(draft: Draft) -> None:
    """Take the steps to the end that are due: tell CANCELLING, drop the candidate, end."""
    run = draft.run
    if run.core.ending and run.core.state is not RunState.CANCELLING:
        draft.tell_run(RunState.CANCELLING, run.core.ending.failure)
    if run.core.state is RunState.CANCELLING:
        if run.core.candidate and not run.core.integrating:
            draft.emit(r.CandidateDropped(run.core.candidate.number))
        if not run.open_attempts and not run.core.integrating:
            _end_as_asked(draft)
    elif run.all_final and not run.core.planning and not run.open_attempts:
        _end_by_itself(draft)


def _end_as_asked(draft: Draft) -> None:
    run = draft.run
    ending = run.core.ending or Ending(RunState.CANCELLED)
    for task in list(run.tasks.values()):
        if not task.state.final:
            draft.emit(e.TaskStatusChanged(task.id, TaskState.CANCELLED, message=ending.message))
    draft.tell_progress()
    draft.tell_run(ending.state, ending.failure)


def _end_by_itself(draft: Draft) -> None:
    run = draft.run
    failed = [task.id for task in run.tasks.values() if task.state is TaskState.FAILED]
    if run.counts[TaskState.COMPLETED] == len(run.tasks):
        state, failure = RunState.COMPLETED, None
    else:
        shown = ", ".join(failed[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
        state = RunState.FAILED
        failure = RunFailure(RunFailureReason.TASKS_FAILED, f"{len(failed)} failed: {shown}")
    draft.tell_run(state, failure)
