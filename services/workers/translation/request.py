"""What a worker is asked, in its own words."""

from codeframe.amounts import read_budget
from codeframe.plan import Protected
from codeframe.v1 import evidence_pb2, plan_pb2, worker_pb2
from services.workers.outcome import Outcome
from services.workers.work import (
    AttemptRequest,
    Baseline,
    Checks,
    Limits,
    PlanWork,
    PreviousAttempt,
    ScopeOverride,
    TaskWork,
    VerifyWork,
)

_ORPHAN_GRACE = Limits().orphan_grace


def read_request(request: worker_pb2.ExecuteTaskRequest) -> AttemptRequest:
    """The attempt that a valid request asks for."""
    return AttemptRequest(
        attempt_id=request.attempt_id,
        run_id=request.run_id,
        role=request.role,
        repository=request.repository,
        run_base_commit=request.run_base_commit,
        checks=_read_checks(request.checks),
        limits=_read_limits(request.limits),
        work=_read_work(request),
    )


def _read_work(request: worker_pb2.ExecuteTaskRequest) -> TaskWork | VerifyWork | PlanWork:
    match request.WhichOneof("work"):
        case "task":
            return _read_task(request.task)
        case "plan":
            return _read_plan(request.plan)
        case _:
            return _read_verify(request.verify)


def _read_checks(checks: worker_pb2.Checks) -> Checks:
    known = checks.baseline
    baseline = Baseline(frozenset(known.passing_tests), frozenset(known.red_tests), frozenset(known.steering))
    return Checks(
        verification=checks.verification,
        report=checks.report,
        setup=checks.setup,
        setup_paths=tuple(checks.setup_paths),
        baseline=baseline if checks.HasField("baseline") else None,
    )


def _read_limits(limits: worker_pb2.AttemptLimits) -> Limits:
    has_grace = limits.HasField("orphan_grace")
    return Limits(
        attempt_timeout=limits.attempt_timeout.ToTimedelta(),
        test_timeout=limits.test_timeout.ToTimedelta(),
        orphan_grace=limits.orphan_grace.ToTimedelta() if has_grace else _ORPHAN_GRACE,
        turns=limits.turns,
        corrections=limits.corrections,
        allowance=read_budget(limits.allowance),
    )


def _read_task(task: worker_pb2.TaskWork) -> TaskWork:
    return TaskWork(
        task_id=task.task_id,
        title=task.title,
        description=task.description,
        number=task.number,
        base_commit=task.base_commit,
        branch=task.branch,
        start_commit=task.start_commit,
        model=task.model,
        may_change=frozenset(_PROTECTED[kind] for kind in task.may_change),
        previous=_read_previous(task.previous) if task.HasField("previous") else None,
        unverified=task.unverified,
        scope=ScopeOverride(tuple(task.scope.allow), tuple(task.scope.deny)),
    )


def _read_plan(plan: worker_pb2.PlanWork) -> PlanWork:
    return PlanWork(
        goal=plan.goal,
        base_commit=plan.base_commit,
        roles=tuple(plan.roles),
        number=plan.number,
        model=plan.model,
        previous=_read_previous(plan.previous) if plan.HasField("previous") else None,
    )


def _read_previous(previous: worker_pb2.PreviousAttempt) -> PreviousAttempt:
    return PreviousAttempt(
        _outcome_name(previous.outcome), previous.message, previous.diff, previous.red_tests
    )


def _read_verify(verify: worker_pb2.VerifyWork) -> VerifyWork:
    return VerifyWork(commit=verify.commit, branch=verify.branch)


def read_cancel(reason: worker_pb2.CancelReason.ValueType) -> Outcome:
    """How a cancelled attempt is to end."""
    stalled = reason == worker_pb2.CANCEL_REASON_STALLED
    return Outcome.TIMED_OUT if stalled else Outcome.CANCELLED


def _outcome_name(outcome: evidence_pb2.Outcome.ValueType) -> str:
    known = outcome in evidence_pb2.Outcome.values()
    return evidence_pb2.Outcome.Name(outcome).removeprefix("OUTCOME_").lower() if known else "internal"


_PROTECTED = {plan_pb2.ProtectedKind.Value(f"PROTECTED_KIND_{kind.name}"): kind for kind in Protected}
