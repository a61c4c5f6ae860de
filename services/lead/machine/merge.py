"""The merge queue: candidates are stacked, verified, and only then the head moves,
so it is never redder than the base."""

from collections.abc import Iterable

from services.lead.machine import events as e
from services.lead.machine import happenings as h
from services.lead.machine import private_records as r
from services.lead.machine.attempt import Attempt
from services.lead.machine.draft import Draft
from services.lead.machine.ending import ask_end, fail_internally
from services.lead.machine.outcome import Outcome
from services.lead.machine.retry import again_or_failed
from services.lead.machine.run import Run
from services.lead.machine.state import Ending, RunFailure, RunFailureReason, RunState
from services.lead.machine.task import TaskState

RED = frozenset({Outcome.VERIFICATION_FAILED, Outcome.NO_TESTS, Outcome.SETUP_FAILED, Outcome.TIMED_OUT})
REDS_BEFORE_SINGLY = 2

INCONCLUSIVE_CAP = 10
"""How often a verification that said nothing is sent again."""


def stacked(draft: Draft, stack: h.Stacked) -> None:
    """A candidate was pushed, or commits conflict with the head."""
    run, core = draft.run, draft.run.core
    late = core.state is not RunState.RUNNING or core.candidate or core.integrating
    if late or (stack.onto, stack.number) != (core.head, core.candidates + 1):
        return
    queued = {task.id for task in run.merging}
    for task_id, conflict in stack.conflicts.items():
        if task_id in queued:
            task = run.tasks[task_id]
            whose = task.own.attempt_id if task.own else ""
            again_or_failed(draft, task, Outcome.CONFLICT, conflict, None, attempt_id=whose)
    if not stack.tasks or not queued.issuperset(stack.tasks):
        return
    pending = tuple(sorted(key for key in _checks(run, stack.tasks) if not run.is_green(stack.tree, key)))
    draft.emit(r.CandidateMade(stack.number, stack.onto, stack.commit, stack.tree, stack.tasks, pending))
    _integrate_if_green(draft)


def _checks(run: Run, candidate: Iterable[str]) -> set[int]:
    """What a candidate with these tasks must pass: their own checks, and those of what completed.

    A task that nothing verifies brings none. So it must pass whatever passed at the base, and the head is
    never redder than that.
    """
    tasks = [run.tasks[task_id] for task_id in candidate]
    completed = (task for task in run.tasks.values() if task.state is TaskState.COMPLETED)
    checks = {task.check for task in (*tasks, *completed) if task.check is not None}
    if any(task.check is None for task in tasks):
        checks |= {check.key for check in run.core.checks if check.passes}
    return checks


def checked(draft: Draft, attempt: Attempt, ended: h.Ended) -> None:
    """A verify attempt of a candidate ended: green, red, or saying nothing."""
    candidate = draft.run.core.candidate
    if not candidate or attempt.commit != candidate.commit or draft.run.core.state is not RunState.RUNNING:
        return
    if attempt.check is None:
        return
    if ended.outcome is Outcome.SUCCEEDED:
        draft.emit(r.CandidateChecked(attempt.check, True, attempt.id))
        _integrate_if_green(draft)
    elif ended.outcome in RED:
        draft.emit(r.CandidateChecked(attempt.check, False, attempt.id))
        _drop_if_red_enough(draft, ended)
    else:
        draft.emit(r.CandidateChecked(attempt.check, None, attempt.id))
        if candidate.inconclusive + 1 > INCONCLUSIVE_CAP:
            fail_internally(draft, f"a candidate's verification gave no answer: {ended.message}")


def _drop_if_red_enough(draft: Draft, ended: h.Ended) -> None:
    """Red twice: its tasks singly. One red alone: INTEGRATION_FAILED."""
    candidate = draft.run.core.candidate
    if not candidate:
        return
    tasks = [draft.run.tasks[task_id] for task_id in candidate.tasks]
    alone = len(tasks) == 1 and tasks[0].alone
    if not alone and candidate.reds < REDS_BEFORE_SINGLY:
        return
    draft.emit(r.CandidateDropped(candidate.number))
    if len(tasks) == 1:
        again_or_failed(
            draft,
            tasks[0],
            Outcome.INTEGRATION_FAILED,
            ended.message,
            None,
            attempt_id=tasks[0].own.attempt_id if tasks[0].own else "",
            report_attempt=ended.attempt_id,
        )
    else:
        draft.emit(*(r.QueuedAlone(task.id) for task in tasks))


def _integrate_if_green(draft: Draft) -> None:
    core = draft.run.core
    if core.candidate and not core.candidate.pending and not core.integrating:
        draft.emit(r.IntegratingOpened(core.candidate.tasks, core.head, core.candidate.commit))


def pushed(draft: Draft, push: h.HeadPushed) -> None:
    """The head was moved: its tasks completed, and what waited for them may start."""
    run, integrating = draft.run, draft.run.core.integrating
    if not integrating:
        return
    draft.emit(r.IntegratingClosed(push.moved))
    if not push.moved:
        message = f"{run.facts.branch} is not where this run left it: somebody else moved it"
        failure = RunFailure(RunFailureReason.RUN_BRANCH_MOVED, message)
        ask_end(draft, Ending(RunState.FAILED, failure, message))
        return
    for task_id in integrating.tasks:
        unverified = run.tasks[task_id].spec.unverified
        draft.emit(e.TaskStatusChanged(task_id, TaskState.COMPLETED, progress=100, unverified=unverified))
        for dependent in run.dependents.get(task_id, ()):
            task = run.tasks[dependent]
            if task.state is TaskState.PENDING and not run.unmet[dependent]:
                draft.emit(e.TaskUnblocked(dependent, task.spec.depends_on))
                if run.core.state is RunState.RUNNING:
                    draft.tell_ready(task)
    draft.tell_progress()
