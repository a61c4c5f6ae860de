"""What an event does to a run. The one place where state changes; replaying every event of a
run from its RunCreated gives the same state as the stored rows."""

from dataclasses import replace
from datetime import datetime

from codeframe.budget import NOTHING
from services.lead.machine import events as e
from services.lead.machine import private_records as r
from services.lead.machine.attempt import Attempt, AttemptKind
from services.lead.machine.run import Run
from services.lead.machine.state import Candidate, Green, Integrating, Planning, RunCore, RunState
from services.lead.machine.task import PreviousAttempt, Task, TaskState
from services.lead.machine.usage import Usage


def begin(created: r.RunCreated) -> Run:
    """The state that a run starts with."""
    planning = Planning() if created.facts.goal else None
    core = RunCore(state=RunState.PLANNING, head=created.facts.base, checks=created.checks, planning=planning)
    return Run(created.facts, core, _tasks(created))


def _tasks(plan: r.RunCreated | r.PlanAdopted) -> list[Task]:
    return [Task(spec, index, plan.check_of.get(spec.id)) for index, spec in enumerate(plan.tasks)]


def fold(run: Run, event: e.Event, time: datetime) -> None:
    """Move a run forward by one event that happened at `time`.

    Events that only tell (task_assigned, progress_update, ...) change nothing. Raises
    KeyError for an event of a task or attempt that the run does not have.
    """
    match event:
        case e.RunStatusChanged():
            end_time = time if event.state.final else None
            run.update(
                state=event.state,
                failure=event.failure,
                end_time=end_time,
                unserved=event.unserved,
                unserved_reason=event.unserved_reason,
            )
        case e.TaskStatusChanged():
            _task_status(run, event)
        case e.AttemptStarted():
            run.put_attempt(replace(run.attempts[event.attempt_id], started=True))
        case e.AttemptEnded():
            _attempt_ended(run, event, time)
        case e.Noticed():
            _noticed(run, event)
        case r.Claimed():
            run.update(term=event.term)
        case r.AttemptBound():
            _bound(run, event)
        case r.AttemptUnbound():
            _unbound(run, event)
        case r.ResultRecorded():
            run.put_attempt(replace(run.attempts[event.attempt_id], result=event.result))
        case r.UsageSettled():
            _settled(run, event)
        case r.UsageEstimated():
            _estimated(run, event)
        case r.RetryScheduled():
            _retry(run, event)
        case r.CommitQueued():
            task = run.tasks[event.task_id]
            run.put_task(replace(task, own=event.own))
            if task.check is not None:
                _add_green(run, Green(event.tree, task.check, event.own.attempt_id))
        case r.QueuedAlone():
            run.put_task(replace(run.tasks[event.task_id], alone=True))
        case r.EndingAsked():
            run.update(ending=run.core.ending or event.ending)
        case r.PlanAdopted():
            run.update(planning=None, checks=event.checks)
            run.adopt(_tasks(event))
        case r.PlanRetryScheduled():
            _plan_again(run, event)
        case r.ProvidersHeld():
            run.update(holds=event.holds)
        case r.PlanRetryDue():
            _update_planning(run, retry_time=None)
        case r.BaseVerified():
            _baseline(run, event.check, event.attempt_id, passes=event.passes)
        case r.CandidateMade() | r.CandidateChecked() | r.CandidateDropped():
            _candidate(run, event)
        case r.IntegratingOpened():
            run.update(integrating=Integrating(event.tasks, event.start, event.to))
        case r.IntegratingClosed():
            _integrated(run, event)
        case _:
            pass


def _task_status(run: Run, event: e.TaskStatusChanged) -> None:
    task = run.tasks[event.task_id]
    completed = event.state is TaskState.COMPLETED
    keeps_agent = event.state in (TaskState.ASSIGNED, TaskState.IN_PROGRESS)
    run.put_task(
        replace(
            task,
            state=event.state,
            phase=event.phase,
            waiting_for=event.waiting_for,
            retry_time=event.retry_time,
            progress=event.progress or 0,
            agent_id=event.agent_id or (task.agent_id if keeps_agent else ""),
            reason=event.reason,
            message=event.message,
            commit=task.own.commit if completed and task.own else "",
        )
    )


def _bound(run: Run, event: r.AttemptBound) -> None:
    known = run.attempts.get(event.attempt_id)
    run.put_attempt(
        Attempt(
            id=event.attempt_id,
            number=event.number,
            kind=event.kind,
            role=event.role,
            binding=event.binding,
            request=event.request,
            base=event.base,
            bound_time=event.time,
            task_id=event.task_id,
            check=event.check,
            commit=event.commit,
            ordinal=known.ordinal if known else len(run.attempts),
            allowance=event.allowance,
        )
    )
    match event.kind:
        case AttemptKind.VERIFY:
            run.update(verifications=event.number)
        case AttemptKind.PLAN:
            _update_planning(run, attempts=event.number)
        case AttemptKind.TASK:
            task = run.tasks[event.task_id]
            run.put_task(replace(task, attempts=event.number, open_attempt=event.attempt_id))


def _unbound(run: Run, event: r.AttemptUnbound) -> None:
    attempt = run.attempts[event.attempt_id]
    run.put_attempt(replace(attempt, unbound=True, request=b""))
    if attempt.kind is AttemptKind.TASK:
        task = run.tasks[attempt.task_id]
        run.put_task(replace(task, attempts=task.attempts - 1, open_attempt=""))
    elif attempt.kind is AttemptKind.PLAN:
        _update_planning(run, attempts=attempt.number - 1)


def _attempt_ended(run: Run, event: e.AttemptEnded, time: datetime) -> None:
    attempt = run.attempts[event.attempt_id]
    run.put_attempt(
        replace(
            attempt, outcome=event.outcome, message=event.message, end_time=time, request=b"", started=True
        )
    )
    if attempt.kind is AttemptKind.TASK:
        task = run.tasks[attempt.task_id]
        if task.open_attempt == attempt.id:
            run.put_task(replace(task, open_attempt=""))


def _noticed(run: Run, event: e.Noticed) -> None:
    attempt = run.attempts[event.attempt_id]
    attempt = replace(attempt, last_sequence=max(attempt.last_sequence, event.sequence))
    if event.usage and not attempt.settled:
        attempt = replace(attempt, usage=_added(attempt.usage, event.usage))
        run.update(usage=_added(run.core.usage, event.usage))
    run.put_attempt(attempt)
    task = run.tasks.get(attempt.task_id)
    if event.phase and task and task.open_attempt == attempt.id:
        run.put_task(
            replace(
                task,
                state=TaskState.IN_PROGRESS,
                phase=event.phase,
                progress=task.progress if event.progress is None else event.progress,
                waiting_for=None,
            )
        )


def _added(usage: tuple[Usage, ...], more: Usage) -> tuple[Usage, ...]:
    by_model = {each.model: each for each in usage}
    by_model[more.model] = by_model[more.model] + more if more.model in by_model else more
    return tuple(by_model.values())


def _settled(run: Run, event: r.UsageSettled) -> None:
    """The result's account takes the place of the notices', in the attempt and in the run."""
    attempt, core = run.attempts[event.attempt_id], run.core
    usage = {each.model: each for each in core.usage}
    for before in attempt.usage:
        usage[before.model] = _less(usage[before.model], before)
    settled = tuple(each for each in usage.values() if each.turns or each.tokens)
    for after in event.usage:
        settled = _added(settled, after)
    run.update(
        usage=settled,
        wall_time=core.wall_time - attempt.wall_time + event.wall_time,
        estimated=core.estimated - attempt.estimate,
    )
    run.put_attempt(
        replace(
            attempt,
            usage=event.usage,
            wall_time=event.wall_time,
            settled=True,
            estimate=NOTHING,
            asked_until=None,
        )
    )


def _less(usage: Usage, part: Usage) -> Usage:
    """A usage without a part of it. What was unknown or incomplete stays so."""
    return replace(
        usage,
        turns=usage.turns - part.turns,
        input_tokens=usage.input_tokens - part.input_tokens,
        output_tokens=usage.output_tokens - part.output_tokens,
        cache_write_tokens=usage.cache_write_tokens - part.cache_write_tokens,
        cache_read_tokens=usage.cache_read_tokens - part.cache_read_tokens,
        cost_micros=usage.cost_micros - part.cost_micros,
    )


def _estimated(run: Run, event: r.UsageEstimated) -> None:
    attempt = run.attempts[event.attempt_id]
    run.update(estimated=run.core.estimated - attempt.estimate + event.estimate)
    run.put_attempt(replace(attempt, estimate=event.estimate, asked_until=event.asked_until))


def _retry(run: Run, event: r.RetryScheduled) -> None:
    task = run.tasks[event.task_id]
    endings = {**task.endings, event.reason: task.endings.get(event.reason, 0) + 1}
    run.put_task(
        replace(
            task,
            endings=endings,
            retries=task.retries + event.costs_retry,
            previous=PreviousAttempt(event.reason, event.message, event.attempt_id, event.report_attempt),
            own=event.own,
            alone=False,
        )
    )


def _update_planning(run: Run, **changes: object) -> None:
    if run.core.planning:
        run.update(planning=replace(run.core.planning, **changes))  # type: ignore[arg-type]


def _plan_again(run: Run, event: r.PlanRetryScheduled) -> None:
    before = run.core.planning or Planning()
    _update_planning(
        run,
        endings={**before.endings, event.reason: before.endings.get(event.reason, 0) + 1},
        retries=before.retries + event.costs_retry,
        previous=PreviousAttempt(event.reason, event.message),
        retry_time=event.retry_time,
    )


def _candidate(run: Run, event: r.CandidateMade | r.CandidateChecked | r.CandidateDropped) -> None:
    candidate = run.core.candidate
    match event:
        case r.CandidateMade():
            made = Candidate(
                event.number, event.onto, event.commit, event.tree, event.tasks, pending=event.pending
            )
            run.update(candidate=made, candidates=event.number)
        case r.CandidateDropped():
            run.update(candidate=None)
        case r.CandidateChecked(green=True) if candidate:
            pending = tuple(key for key in candidate.pending if key != event.check)
            run.update(candidate=replace(candidate, pending=pending))
            _add_green(run, Green(candidate.tree, event.check, event.attempt_id))
        case r.CandidateChecked(green=False) if candidate:
            run.update(candidate=replace(candidate, reds=candidate.reds + 1))
        case r.CandidateChecked() if candidate:
            run.update(candidate=replace(candidate, inconclusive=candidate.inconclusive + 1))
        case _:
            pass


def _add_green(run: Run, green: Green) -> None:
    if not run.is_green(green.tree, green.check):
        run.update(green=(*run.core.green, green))


def _baseline(run: Run, key: int, attempt_id: str, *, passes: bool = False) -> None:
    checks = list(run.core.checks)
    check = checks[key]
    checks[key] = replace(check, report_attempt=attempt_id, passes=check.passes or passes)
    run.update(checks=tuple(checks))


def _integrated(run: Run, event: r.IntegratingClosed) -> None:
    """The reports of what was merged become the baselines: what passed there must pass from now on."""
    candidate, integrating = run.core.candidate, run.core.integrating
    run.update(candidate=None, integrating=None)
    if not (event.moved and candidate and integrating):
        return
    kept = tuple(green for green in run.core.green if green.tree == candidate.tree)
    for green in kept:
        _baseline(run, green.check, green.attempt_id)
    run.update(head=integrating.to, green=kept)
