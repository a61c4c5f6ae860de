"""Runs, tasks and attempts as they stand."""

from datetime import timedelta

from codeframe.amounts import write_amounts
from codeframe.budget import NOTHING, Charge
from codeframe.v1 import budget_pb2, lead_pb2, state_pb2
from services.lead.machine.allowance import charged, reserved
from services.lead.machine.attempt import Attempt
from services.lead.machine.run import Run
from services.lead.machine.state import RunLimits
from services.lead.machine.task import Task, TaskState
from services.lead.public.values import (
    allowance_to_proto,
    failure_to_proto,
    outcome_to_proto,
    timestamp,
    usage_to_proto,
    value_of,
)


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
        state=value_of(state_pb2.RunState, "RUN_STATE", core.state),
        labels=facts.labels,
        create_time=timestamp(facts.create_time),
        usage=[usage_to_proto(usage) for usage in core.usage],
        limits=_limits(facts.limits),
        unserved_roles=core.unserved,
        unserved_reason=core.unserved_reason,
        counts=lead_pb2.TaskCounts(
            total=len(run.tasks),
            unverified=run.unverified,
            **{state.value: counts[state] for state in TaskState},
        ),
    )
    if core.failure:
        message.failure.CopyFrom(failure_to_proto(core.failure))
    if facts.budget.limited:
        message.budget.CopyFrom(write_amounts(budget_pb2.Budget(), facts.budget))
    _set_charge(message.charged, charged(run))
    _set_charge(message.estimated, core.estimated)
    _set_charge(message.reserved, reserved(run))
    if core.end_time:
        message.end_time.CopyFrom(timestamp(core.end_time))
    return message


def _set_charge(message: budget_pb2.Charge, charge: Charge) -> None:
    if charge != NOTHING:
        write_amounts(message, charge)


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
        state=value_of(state_pb2.TaskState, "TASK_STATE", task.state),
        phase=value_of(state_pb2.TaskPhase, "TASK_PHASE", task.phase),
        waiting_for=value_of(state_pb2.WaitingFor, "WAITING_FOR", task.waiting_for),
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
        kind=value_of(state_pb2.AttemptKind, "ATTEMPT_KIND", attempt.kind),
        agent_id=attempt.agent_id,
        worker=attempt.binding.address,
        outcome=outcome_to_proto(attempt.outcome),
        message=attempt.message,
        start_time=timestamp(attempt.bound_time),
        base_commit=attempt.base,
        usage=[usage_to_proto(usage) for usage in attempt.usage],
    )
    _set_charge(message.estimated, attempt.estimate)
    if attempt.allowance.limited:
        message.allowance.CopyFrom(allowance_to_proto(attempt.allowance))
    if attempt.result:
        message.result.MergeFromString(attempt.result)
    if attempt.end_time:
        message.end_time.CopyFrom(timestamp(attempt.end_time))
    return message
