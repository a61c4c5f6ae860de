"""What the machine knows, as the public API shows it: events both ways, and runs, tasks, attempts."""

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from codeframe.amounts import write_amounts
from codeframe.budget import NOTHING, Budget, Charge
from codeframe.v1 import budget_pb2, events_pb2, evidence_pb2, lead_pb2, state_pb2
from services.lead.machine import events as e
from services.lead.machine.allowance import charged, reserved
from services.lead.machine.attempt import Attempt, AttemptKind
from services.lead.machine.outcome import Outcome
from services.lead.machine.run import Run
from services.lead.machine.state import RunFailure, RunFailureReason, RunLimits, RunPhase
from services.lead.machine.task import Phase, Task, TaskState, WaitingFor
from services.lead.machine.usage import Usage

E = TypeVar("E", bound=Enum)

PROPOSED_LIMIT = 32 << 10
"""Bytes of a plan's tasks in the event that tells of it."""


def timestamp(instant: datetime) -> Timestamp:
    """An aware instant as a Timestamp."""
    message = Timestamp()
    message.FromDatetime(instant.astimezone(UTC))
    return message


def instant(message: Timestamp) -> datetime:
    """A Timestamp as an aware instant."""
    return message.ToDatetime(UTC)


def _value(enum: Any, prefix: str, member: Enum | None) -> Any:
    return enum.Value(f"{prefix}_{member.name if member else 'UNSPECIFIED'}")


def _member(kind: type[E], enum: Any, prefix: str, number: int) -> E | None:
    name = enum.Name(number).removeprefix(f"{prefix}_")
    return None if name == "UNSPECIFIED" else kind[name]


def outcome_to_proto(outcome: Outcome | None) -> evidence_pb2.Outcome.ValueType:
    """An outcome by its name."""
    return _value(evidence_pb2.Outcome, "OUTCOME", outcome)  # type: ignore[no-any-return]


def outcome_from_proto(number: int) -> Outcome:
    """An outcome by its name; one that this lead does not know is INTERNAL (DESIGN §4)."""
    if number not in evidence_pb2.Outcome.values():
        return Outcome.INTERNAL
    return _member(Outcome, evidence_pb2.Outcome, "OUTCOME", number) or Outcome.INTERNAL


def event_to_proto(event: e.PublicEvent, run_id: str, project: str, time: datetime) -> events_pb2.Event:
    """A public event, as it is stored and broadcast."""
    message = events_pb2.Event(run_id=run_id, project=project, event_time=timestamp(time))
    match event:
        case e.RunStatusChanged():
            changed = message.run_status_changed
            changed.status = _value(state_pb2.RunState, "RUN_STATE", event.state)
            changed.branch, changed.head_commit = event.branch, event.head
            changed.unserved_roles.extend(event.unserved)
            if event.failure:
                changed.failure.CopyFrom(_failure(event.failure))
        case e.TaskStatusChanged():
            message.task_status_changed.CopyFrom(_task_status(event))
        case e.TaskAssigned():
            message.task_assigned.task_id, message.task_assigned.agent_id = event.task_id, event.agent_id
        case e.TaskBlocked():
            message.task_blocked.task_id = event.task_id
            message.task_blocked.blocked_by.extend(event.blocked_by)
        case e.TaskUnblocked():
            message.task_unblocked.task_id = event.task_id
            message.task_unblocked.unblocked_by.extend(event.unblocked_by)
        case e.AgentWorking():
            agent = message.agent_status_changed
            agent.agent_id, agent.status = event.agent_id, state_pb2.AGENT_STATE_WORKING
            agent.current_task_id, agent.progress = event.task_id, event.progress
        case e.ProgressUpdate():
            progress = message.progress_update
            progress.completed, progress.failed, progress.total = event.completed, event.failed, event.total
            progress.unverified = event.unverified
        case e.CommitCreated():
            message.commit_created.CopyFrom(
                events_pb2.CommitCreated(
                    task_id=event.task_id,
                    commit_hash=event.commit,
                    message=event.message,
                    files=event.files[:100],
                    file_count=event.file_count,
                )
            )
        case e.PlanProposed():
            message.attempt_id = event.attempt_id
            message.plan_proposed.CopyFrom(_plan_proposed(event))
        case e.AttemptStarted():
            message.attempt_id = event.attempt_id
            started = message.attempt_started
            started.task_id, started.number, started.agent_id = event.task_id, event.number, event.agent_id
            started.kind = _value(state_pb2.AttemptKind, "ATTEMPT_KIND", event.kind)
            started.base_commit = event.base
        case e.AttemptEnded():
            message.attempt_id = event.attempt_id
            message.attempt_ended.CopyFrom(_attempt_ended(event))
        case e.Noticed():
            message.attempt_id, message.sequence = event.attempt_id, event.sequence
            getattr(message, event.kind).MergeFromString(event.payload)
            getattr(message, event.kind).SetInParent()
    return message


def _task_status(event: e.TaskStatusChanged) -> events_pb2.TaskStatusChanged:
    message = events_pb2.TaskStatusChanged(
        task_id=event.task_id,
        status=_value(state_pb2.TaskState, "TASK_STATE", event.state),
        agent_id=event.agent_id,
        progress=event.progress,
        phase=_value(state_pb2.TaskPhase, "TASK_PHASE", event.phase),
        waiting_for=_value(state_pb2.WaitingFor, "WAITING_FOR", event.waiting_for),
        reason=outcome_to_proto(event.reason),
        message=event.message,
        unverified=event.unverified,
    )
    if event.retry_time:
        message.retry_time.CopyFrom(timestamp(event.retry_time))
    return message


def _attempt_ended(event: e.AttemptEnded) -> events_pb2.AttemptEnded:
    return events_pb2.AttemptEnded(
        task_id=event.task_id,
        number=event.number,
        kind=_value(state_pb2.AttemptKind, "ATTEMPT_KIND", event.kind),
        outcome=outcome_to_proto(event.outcome),
        message=event.message,
        commit=event.commit,
        last_sequence=event.last_sequence,
        corrections=event.corrections,
        unverified=event.unverified,
        artifacts=map(_artifact, event.artifacts),
    )


def _artifact(held: e.ArtifactHeld) -> evidence_pb2.Artifact:
    return evidence_pb2.Artifact(
        name=held.name,
        media_type=held.media_type,
        size=held.size,
        sha256=held.sha256,
        truncated=held.truncated,
    )


def _plan_proposed(event: e.PlanProposed) -> events_pb2.PlanProposed:
    """The plan, with as many of its tasks as an event may tell."""
    message = events_pb2.PlanProposed(
        title=event.title, task_count=len(event.tasks), plan=_artifact(event.artifact)
    )
    size = 0
    for task in event.tasks:
        told = events_pb2.ProposedTask(
            task_id=task.id, title=task.title, role=task.role, depends_on=task.depends_on
        )
        size += told.ByteSize()
        if size > PROPOSED_LIMIT:
            break
        message.tasks.append(told)
    return message


def event_from_proto(message: events_pb2.Event) -> e.PublicEvent | None:
    """The event that a stored one was written from, as far as `fold` reads it; None where it reads none."""
    kind = message.WhichOneof("payload")
    if message.sequence and kind:
        payload = getattr(message, kind)
        return notice(kind, payload, message.attempt_id, message.sequence, message.event_time)
    match kind:
        case "run_status_changed":
            run = message.run_status_changed
            state = _member(RunPhase, state_pb2.RunState, "RUN_STATE", run.status)
            failure = _failure_from(run.failure) if run.HasField("failure") else None
            if state is None:
                return None
            return e.RunStatusChanged(state, failure, run.branch, run.head_commit, tuple(run.unserved_roles))
        case "task_status_changed":
            return _task_status_from(message.task_status_changed)
        case "attempt_started":
            started = message.attempt_started
            return e.AttemptStarted(
                message.attempt_id,
                started.task_id,
                started.number,
                _member(AttemptKind, state_pb2.AttemptKind, "ATTEMPT_KIND", started.kind) or AttemptKind.TASK,
                started.agent_id,
                started.base_commit,
            )
        case "attempt_ended":
            ended = message.attempt_ended
            return e.AttemptEnded(
                message.attempt_id,
                ended.task_id,
                ended.number,
                _member(AttemptKind, state_pb2.AttemptKind, "ATTEMPT_KIND", ended.kind) or AttemptKind.TASK,
                outcome_from_proto(ended.outcome),
                ended.message,
                ended.commit,
                ended.last_sequence,
                ended.corrections,
            )
        case _:
            return None


def _task_status_from(told: events_pb2.TaskStatusChanged) -> e.TaskStatusChanged | None:
    state = _member(TaskState, state_pb2.TaskState, "TASK_STATE", told.status)
    if state is None:
        return None
    return e.TaskStatusChanged(
        told.task_id,
        state,
        agent_id=told.agent_id if told.HasField("agent_id") else None,
        progress=told.progress if told.HasField("progress") else None,
        phase=_member(Phase, state_pb2.TaskPhase, "TASK_PHASE", told.phase),
        waiting_for=_member(WaitingFor, state_pb2.WaitingFor, "WAITING_FOR", told.waiting_for),
        reason=outcome_from_proto(told.reason) if told.reason else None,
        message=told.message,
        retry_time=instant(told.retry_time) if told.HasField("retry_time") else None,
    )


def notice(kind: str, payload: Any, attempt_id: str, sequence: int, time: Timestamp) -> e.Noticed:
    """A worker's notice, or the event that it became, with what the machine folds taken out."""
    phase, progress, usage = None, None, None
    if kind == "task_status_changed":
        phase = _member(Phase, state_pb2.TaskPhase, "TASK_PHASE", payload.phase) or Phase.WORKING
        progress = payload.progress if payload.HasField("progress") else None
    elif kind == "usage_recorded":
        usage = usage_from_proto(payload.usage)
    return e.Noticed(
        attempt_id,
        sequence,
        instant(time),
        kind,
        payload.SerializeToString(),
        phase,
        progress,
        usage,
    )


def usage_from_proto(usage: evidence_pb2.ModelUsage) -> Usage:
    """What model calls took."""
    return Usage(
        usage.model,
        usage.turns,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_write_tokens,
        usage.cache_read_tokens,
        usage.incomplete,
        usage.scripted,
        usage.cost_micros,
        usage.cost_known,
    )


def _usage(usage: Usage) -> evidence_pb2.ModelUsage:
    return evidence_pb2.ModelUsage(
        model=usage.model,
        turns=usage.turns,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        incomplete=usage.incomplete,
        scripted=usage.scripted,
        cost_micros=usage.cost_micros,
        cost_known=usage.cost_known,
    )


def allowance_to_proto(allowance: Budget) -> budget_pb2.Allowance:
    """What an attempt may spend."""
    return write_amounts(budget_pb2.Allowance(), allowance)


def _set_charge(message: budget_pb2.Charge, charge: Charge) -> None:
    if charge != NOTHING:
        write_amounts(message, charge)


def _failure(failure: RunFailure) -> state_pb2.RunFailure:
    reason = _value(state_pb2.RunFailureReason, "RUN_FAILURE_REASON", failure.reason)
    return state_pb2.RunFailure(reason=reason, message=failure.message)


def _failure_from(failure: state_pb2.RunFailure) -> RunFailure | None:
    reason = _member(RunFailureReason, state_pb2.RunFailureReason, "RUN_FAILURE_REASON", failure.reason)
    return RunFailure(reason, failure.message) if reason else None


def run_to_proto(run: Run) -> lead_pb2.Run:
    """A run with its counts; its revision is the journal's to fill in."""
    facts, core, counts = run.facts, run.core, run.counts
    message = lead_pb2.Run(
        run_id=facts.run_id,
        project=facts.project,
        request_id=facts.request_id,
        title=facts.title,
        goal=facts.goal,
        repository=facts.repository,
        base_commit=facts.base,
        branch=facts.branch,
        head_commit=core.head,
        state=_value(state_pb2.RunState, "RUN_STATE", core.phase),
        labels=facts.labels,
        create_time=timestamp(facts.create_time),
        usage=[_usage(usage) for usage in core.usage],
        limits=_limits(facts.limits),
        unserved_roles=core.unserved,
        counts=lead_pb2.TaskCounts(
            total=len(run.tasks),
            unverified=run.unverified,
            **{state.value: counts[state] for state in TaskState},
        ),
    )
    if core.failure:
        message.failure.CopyFrom(_failure(core.failure))
    if facts.budget.limited:
        message.budget.CopyFrom(write_amounts(budget_pb2.Budget(), facts.budget))
    _set_charge(message.charged, charged(run))
    _set_charge(message.estimated, core.estimated)
    _set_charge(message.reserved, reserved(run))
    if core.end_time:
        message.end_time.CopyFrom(timestamp(core.end_time))
    return message


def _limits(limits: RunLimits) -> lead_pb2.RunLimits:
    message = lead_pb2.RunLimits(
        concurrency=limits.concurrency,
        retries=limits.retries,
        corrections=limits.corrections,
        turns=limits.turns,
    )
    for name in ("attempt_timeout", "test_timeout", "run_timeout"):
        duration: timedelta = getattr(limits, name)
        getattr(message, name).FromTimedelta(duration)
    return message


def task_to_proto(task: Task, run_id: str) -> lead_pb2.Task:
    """A task as it stands."""
    message = lead_pb2.Task(
        run_id=run_id,
        task_id=task.id,
        title=task.spec.title,
        role=task.spec.role,
        depends_on=task.spec.depends_on,
        priority=task.spec.priority,
        state=_value(state_pb2.TaskState, "TASK_STATE", task.state),
        phase=_value(state_pb2.TaskPhase, "TASK_PHASE", task.phase),
        waiting_for=_value(state_pb2.WaitingFor, "WAITING_FOR", task.waiting_for),
        progress=task.progress,
        agent_id=task.agent_id,
        attempts=task.attempts,
        retries=task.retries,
        reason=outcome_to_proto(task.reason),
        message=task.message,
        commit=task.commit,
        unverified=task.spec.unverified,
    )
    if task.spec.budget.limited:
        message.budget.CopyFrom(write_amounts(budget_pb2.Budget(), task.spec.budget))
    if task.retry_time:
        message.retry_time.CopyFrom(timestamp(task.retry_time))
    return message


def attempt_to_proto(attempt: Attempt, run_id: str) -> lead_pb2.Attempt:
    """An attempt as it stands, with the result that its worker returned."""
    message = lead_pb2.Attempt(
        attempt_id=attempt.id,
        run_id=run_id,
        task_id=attempt.task_id,
        number=attempt.number,
        kind=_value(state_pb2.AttemptKind, "ATTEMPT_KIND", attempt.kind),
        agent_id=attempt.agent_id,
        worker=attempt.binding.address,
        outcome=outcome_to_proto(attempt.outcome),
        message=attempt.message,
        start_time=timestamp(attempt.bound_time),
        base_commit=attempt.base,
        usage=[_usage(usage) for usage in attempt.usage],
    )
    _set_charge(message.estimated, attempt.estimate)
    if attempt.allowance.limited:
        message.allowance.CopyFrom(allowance_to_proto(attempt.allowance))
    if attempt.result:
        message.result.MergeFromString(attempt.result)
    if attempt.end_time:
        message.end_time.CopyFrom(timestamp(attempt.end_time))
    return message
