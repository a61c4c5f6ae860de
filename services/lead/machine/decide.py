"""What follows from a happening: the events to append.

Late, repeated and unknown happenings decide nothing, so the conductor may tell the machine
the same thing twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from codeframe.plan import PLANNER
from services.lead.machine import events as e
from services.lead.machine import happenings as h
from services.lead.machine import merge, planning, provider, spending
from services.lead.machine import private_records as r
from services.lead.machine.attempt import Attempt, AttemptKind
from services.lead.machine.draft import Draft, clip
from services.lead.machine.ending import ask_end, fail_internally, settle
from services.lead.machine.fold import begin
from services.lead.machine.outcome import Outcome
from services.lead.machine.retry import again_or_failed
from services.lead.machine.run import Run
from services.lead.machine.state import Ending, RunFailure, RunFailureReason, RunState
from services.lead.machine.task import OwnCommit, Phase, TaskState
from services.lead.machine.wanted import placements


def create(created: r.RunCreated, time: datetime) -> Draft:
    """The first events of a run: its tasks, which it has but where a goal needs a plan first."""
    draft = Draft(begin(created), time)
    draft.events.append((created, time))
    draft.tell_run(RunState.PLANNING, None)
    if not draft.run.core.planning:
        draft.tell_tasks()
    return draft


def decide(run: Run, happening: h.Happening) -> Draft:
    """Decide what follows from a happening. `run` is left as it is."""
    draft = Draft(run, happening.time)
    if run.core.state.final:
        return draft
    match happening:
        case h.Bound():
            _bound(draft, happening)
        case h.NotStarted():
            _not_started(draft, happening)
        case h.Notices():
            _notices(draft, happening)
        case h.Ended():
            _ended(draft, happening)
        case h.Planned():
            if _tell_ended(draft, happening.ended) and draft.run.core.planning:
                planning.adopt(draft, happening)
                _roles_served(draft, happening.served, {})
                _start_unverified(draft)
        case h.Answered():
            spending.answered(draft, happening)
        case h.Stacked():
            merge.stacked(draft, happening)
        case h.HeadPushed():
            merge.pushed(draft, happening)
        case h.EndAsked():
            ask_end(draft, happening.ending)
        case h.RolesServed():
            _roles_served(draft, happening.roles, happening.lacks)
            _start_unverified(draft)
        case h.ProvidersHeld():
            provider.held(draft, happening)
        case h.ClockRead():
            _clock(draft, happening.time)
    provider.tell_who_waits(draft)
    spending.settle(draft)
    settle(draft)
    return draft


def _bound(draft: Draft, bound: h.Bound) -> None:
    wanted = bound.placement
    if wanted not in placements(draft.run):
        return
    draft.emit(
        r.AttemptBound(
            attempt_id=wanted.attempt_id,
            task_id=wanted.task_id,
            number=wanted.number,
            kind=wanted.kind,
            role=wanted.role,
            binding=bound.binding,
            request=bound.request,
            base=wanted.base,
            check=wanted.check,
            commit=wanted.commit,
            time=bound.time,
            allowance=wanted.allowance,
        )
    )
    if wanted.kind is AttemptKind.TASK:
        agent = draft.run.attempts[wanted.attempt_id].agent_id
        draft.emit(
            e.TaskAssigned(wanted.task_id, agent),
            e.TaskStatusChanged(wanted.task_id, TaskState.ASSIGNED, agent_id=agent, progress=0),
            e.AgentWorking(agent, wanted.task_id, progress=0),
        )


def _not_started(draft: Draft, refused: h.NotStarted) -> None:
    attempt = draft.run.attempts.get(refused.attempt_id)
    if not attempt or not attempt.open or attempt.started:
        return
    draft.emit(r.AttemptUnbound(attempt.id, refused.message))
    if attempt.kind is AttemptKind.TASK:
        draft.tell_ready(draft.run.tasks[attempt.task_id], refused.message)


def _notices(draft: Draft, told: h.Notices) -> None:
    attempt = draft.run.attempts.get(told.attempt_id)
    if not attempt or attempt.unbound:
        return
    if not attempt.started:
        _tell_started(draft, attempt)
    for notice in told.notices:
        if notice.sequence <= attempt.last_sequence:
            continue
        if attempt.outcome is None or notice.usage:
            draft.emit(notice, time=notice.time)


def _tell_started(draft: Draft, attempt: Attempt) -> None:
    draft.emit(
        e.AttemptStarted(
            attempt.id, attempt.task_id, attempt.number, attempt.kind, attempt.agent_id, attempt.base
        )
    )


def _tell_ended(draft: Draft, ended: h.Ended) -> Attempt | None:
    """The attempt that ended, where that is news."""
    attempt = draft.run.attempts.get(ended.attempt_id)
    if not attempt or not attempt.open:
        return None
    if not attempt.started and ended.result:
        _tell_started(draft, attempt)
    if ended.result:
        draft.emit(r.ResultRecorded(attempt.id, ended.result))
    draft.emit(
        e.AttemptEnded(
            attempt_id=attempt.id,
            task_id=attempt.task_id,
            number=attempt.number,
            kind=attempt.kind,
            outcome=ended.outcome,
            message=clip(ended.message),
            commit=ended.commit,
            last_sequence=attempt.last_sequence,
            corrections=ended.corrections,
            artifacts=ended.artifacts,
            unverified=attempt.kind is AttemptKind.TASK and attempt.check is None,
        )
    )
    spending.ended(draft, attempt, ended)
    return attempt


def _ended(draft: Draft, ended: h.Ended) -> None:
    attempt = _tell_ended(draft, ended)
    if not attempt:
        return
    ended = spending.believed(draft.run, attempt, ended)
    if attempt.kind is AttemptKind.TASK:
        _task_ended(draft, attempt, ended)
    elif attempt.kind is AttemptKind.PLAN:
        planning.ended(draft, ended)
    elif draft.run.core.state is RunState.PLANNING:
        _base_verified(draft, attempt, ended)
    else:
        merge.checked(draft, attempt, ended)


def _task_ended(draft: Draft, attempt: Attempt, ended: h.Ended) -> None:
    task = draft.run.tasks[attempt.task_id]
    if ended.commit and ended.result:
        draft.emit(
            e.CommitCreated(task.id, ended.commit, ended.commit_subject, ended.files, ended.file_count)
        )
    if draft.run.core.state is RunState.CANCELLING:
        return
    own = OwnCommit(attempt.id, ended.commit, ended.base or attempt.base) if ended.commit else None
    if ended.outcome is Outcome.SUCCEEDED and own:
        draft.emit(
            r.CommitQueued(task.id, own, ended.tree),
            e.TaskStatusChanged(
                task.id,
                TaskState.IN_PROGRESS,
                phase=Phase.MERGING,
                progress=95,
                unverified=task.spec.unverified,
            ),
        )
    elif ended.outcome is Outcome.SUCCEEDED:
        message = "the worker told success and no commit: a fault of its own"
        again_or_failed(draft, task, Outcome.INTERNAL, message, None)
    else:
        again_or_failed(
            draft,
            task,
            ended.outcome,
            ended.message,
            own,
            attempt_id=attempt.id,
            report_attempt=attempt.id,
        )


def _base_verified(draft: Draft, attempt: Attempt, ended: h.Ended) -> None:
    """Red tests at the base count against nobody; a base that cannot be verified ends the run."""
    if attempt.check is None:
        return
    match ended.outcome:
        case Outcome.SUCCEEDED | Outcome.VERIFICATION_FAILED | Outcome.NO_TESTS:
            draft.emit(r.BaseVerified(attempt.check, attempt.id, ended.passed > 0))
            if all(check.report_attempt for check in draft.run.core.checks):
                _start_tasks(draft)
        case Outcome.SETUP_FAILED | Outcome.TIMED_OUT:
            check = draft.run.core.checks[attempt.check]
            ask_end(
                draft,
                Ending(
                    RunState.FAILED,
                    RunFailure(
                        RunFailureReason.BASE_UNVERIFIABLE,
                        f"`{check.verification}` could not be run on the base: {clip(ended.message)}",
                    ),
                ),
            )
        case _:
            tries = sum(
                other.kind is AttemptKind.VERIFY and other.check == attempt.check
                for other in draft.run.attempts.values()
            )
            if tries > merge.INCONCLUSIVE_CAP:
                fail_internally(draft, f"the base's verification gave no answer: {clip(ended.message)}")


def _start_tasks(draft: Draft) -> None:
    core = draft.run.core
    draft.tell_run(RunState.RUNNING, None, core.unserved, core.unserved_reason)
    for task in draft.run.ready:
        draft.tell_ready(task)


def _start_unverified(draft: Draft) -> None:
    """A run that nothing verifies has no base to verify: it starts once it is known who serves it."""
    core = draft.run.core
    if core.state is RunState.PLANNING and not (core.checks or core.planning or core.ending):
        _start_tasks(draft)


def _roles_served(draft: Draft, served: Iterable[str], lacks: Mapping[str, str]) -> None:
    run = draft.run
    if run.core.state is RunState.CANCELLING:
        return
    needed = {task.spec.role for task in run.tasks.values() if not task.state.final}
    needed |= {check.role for check in run.core.checks if not check.report_attempt}
    needed |= {PLANNER} if run.core.planning else set()
    unserved = tuple(sorted(needed - set(served)))
    reason = clip("; ".join(dict.fromkeys(lacks[role] for role in unserved if role in lacks)))
    if (unserved, reason) == (run.core.unserved, run.core.unserved_reason):
        return
    before = set(run.core.unserved)
    draft.tell_run(run.core.state, None, unserved, reason)
    nothing_started = all(attempt.kind is AttemptKind.PLAN for attempt in run.attempts.values())
    if unserved and run.facts.fail_unserved and run.core.state is RunState.PLANNING and nothing_started:
        told = f"no worker serves {', '.join(unserved)}: {reason or 'start one'}; then create the run again"
        ask_end(draft, Ending(RunState.FAILED, RunFailure(RunFailureReason.NO_WORKER, told)))
    elif run.core.state is RunState.RUNNING:
        for task in run.ready:
            if task.spec.role in before ^ set(unserved):
                draft.tell_ready(task)


def _clock(draft: Draft, now: datetime) -> None:
    run = draft.run
    if now >= run.facts.deadline:
        hours = run.facts.limits.run_timeout.total_seconds() / 3600
        message = f"the run's time of {hours:g} h is over; what completed is on {run.facts.branch}"
        ask_end(draft, Ending(RunState.FAILED, RunFailure(RunFailureReason.RUN_TIMEOUT, message), message))
        return
    planning.retry_if_due(draft, now)
    spending.stop_asking(draft, now)
    for task in run.retrying:
        if task.retry_time and task.retry_time <= now:
            draft.tell_ready(replace(task, retry_time=None))
