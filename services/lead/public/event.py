"""Events, both ways."""

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from codeframe.v1 import events_pb2, evidence_pb2, state_pb2
from services.lead.machine import events as e
from services.lead.machine.attempt import AttemptKind
from services.lead.machine.state import RunFailure, RunFailureReason, RunState
from services.lead.machine.task import Phase, TaskState, WaitingFor
from services.lead.public.values import (
    failure_to_proto,
    instant,
    member_of,
    outcome_from_proto,
    outcome_to_proto,
    timestamp,
    usage_from_proto,
    value_of,
)

PROPOSED_LIMIT = 32 << 10
"""Bytes of a plan's tasks in the event that tells of it."""


def event_to_proto(event: e.PublicEvent, run_id: str, project: str, time: datetime) -> events_pb2.Event:
    """A public event, as it is stored and broadcast."""
    message = events_pb2.Event(run_id=run_id, project=project, event_time=timestamp(time))
    match event:
        case e.RunStatusChanged():
            changed = message.run_status_changed
            changed.status = value_of(state_pb2.RunState, "RUN_STATE", event.state)
            changed.branch, changed.head_commit = event.branch, event.head
            changed.unserved_roles.extend(event.unserved)
            changed.unserved_reason = event.unserved_reason
            if event.failure:
                changed.failure.CopyFrom(failure_to_proto(event.failure))
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
            started.kind = value_of(state_pb2.AttemptKind, "ATTEMPT_KIND", event.kind)
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
        status=value_of(state_pb2.TaskState, "TASK_STATE", event.state),
        agent_id=event.agent_id,
        progress=event.progress,
        phase=value_of(state_pb2.TaskPhase, "TASK_PHASE", event.phase),
        waiting_for=value_of(state_pb2.WaitingFor, "WAITING_FOR", event.waiting_for),
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
        kind=value_of(state_pb2.AttemptKind, "ATTEMPT_KIND", event.kind),
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
            state = member_of(RunState, state_pb2.RunState, "RUN_STATE", run.status)
            failure = _failure_from(run.failure) if run.HasField("failure") else None
            if state is None:
                return None
            unserved = tuple(run.unserved_roles)
            return e.RunStatusChanged(
                state, failure, run.branch, run.head_commit, unserved, run.unserved_reason
            )
        case "task_status_changed":
            return _task_status_from(message.task_status_changed)
        case "attempt_started":
            started = message.attempt_started
            return e.AttemptStarted(
                message.attempt_id,
                started.task_id,
                started.number,
                member_of(AttemptKind, state_pb2.AttemptKind, "ATTEMPT_KIND", started.kind)
                or AttemptKind.TASK,
                started.agent_id,
                started.base_commit,
            )
        case "attempt_ended":
            ended = message.attempt_ended
            return e.AttemptEnded(
                message.attempt_id,
                ended.task_id,
                ended.number,
                member_of(AttemptKind, state_pb2.AttemptKind, "ATTEMPT_KIND", ended.kind) or AttemptKind.TASK,
                outcome_from_proto(ended.outcome),
                ended.message,
                ended.commit,
                ended.last_sequence,
                ended.corrections,
            )
        case _:
            return None


def _task_status_from(told: events_pb2.TaskStatusChanged) -> e.TaskStatusChanged | None:
    state = member_of(TaskState, state_pb2.TaskState, "TASK_STATE", told.status)
    if state is None:
        return None
    return e.TaskStatusChanged(
        told.task_id,
        state,
        agent_id=told.agent_id if told.HasField("agent_id") else None,
        progress=told.progress if told.HasField("progress") else None,
        phase=member_of(Phase, state_pb2.TaskPhase, "TASK_PHASE", told.phase),
        waiting_for=member_of(WaitingFor, state_pb2.WaitingFor, "WAITING_FOR", told.waiting_for),
        reason=outcome_from_proto(told.reason) if told.reason else None,
        message=told.message,
        retry_time=instant(told.retry_time) if told.HasField("retry_time") else None,
    )


def notice(kind: str, payload: Any, attempt_id: str, sequence: int, time: Timestamp) -> e.Noticed:
    """A worker's notice, or the event that it became, with what the machine folds taken out."""
    phase, progress, usage = None, None, None
    if kind == "task_status_changed":
        phase = member_of(Phase, state_pb2.TaskPhase, "TASK_PHASE", payload.phase) or Phase.WORKING
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


def _failure_from(failure: state_pb2.RunFailure) -> RunFailure | None:
    reason = member_of(RunFailureReason, state_pb2.RunFailureReason, "RUN_FAILURE_REASON", failure.reason)
    return RunFailure(reason, failure.message) if reason else None
