"""Attempts as a lead asks a worker for them, and how they ended."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from codeframe.v1 import evidence_pb2, plan_pb2, worker_pb2


def outcome(result: evidence_pb2.TaskResult) -> str:
    """How an attempt ended, as `SUCCEEDED`."""
    return evidence_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_")


def task_request(
    project: Path,
    base: str,
    task_id: str = "sum",
    *,
    attempt_id: str = "",
    role: str = "backend",
    start: str = "",
    may_change: Sequence[str] = (),
    passing: Sequence[str] = (),
    red: Sequence[str] = (),
    timeout: float = 50,
    test_timeout: float = 30,
    grace: float = 60,
    corrections: int = 3,
    turns: int = 100,
    verification: str = "python -m pytest -q",
) -> worker_pb2.ExecuteTaskRequest:
    """A request to do a task from a base, whose known tests are these; with no verification, UNVERIFIED."""
    attempt_id = attempt_id or f"run.{task_id}.1"
    request = _request(project, base, attempt_id, role, verification, timeout, test_timeout, grace)
    request.limits.corrections, request.limits.turns = corrections, turns
    request.checks.baseline.CopyFrom(worker_pb2.Baseline(passing_tests=passing, red_tests=red))
    request.task.CopyFrom(
        worker_pb2.TaskWork(
            task_id=task_id,
            title=f"The {task_id}",
            description="Do it.",
            number=1,
            base_commit=base,
            start_commit=start,
            branch=f"codeframe/run/attempts/{attempt_id}",
            may_change=[plan_pb2.ProtectedKind.Value(f"PROTECTED_KIND_{kind}") for kind in may_change],
            unverified=not verification,
        )
    )
    if not verification:
        request.ClearField("checks")
    return request


def plan_request(
    project: Path, base: str, goal: str = "Make it so.", *, roles: Sequence[str] = ("backend", "test")
) -> worker_pb2.ExecuteTaskRequest:
    """A request to make a plan of a goal."""
    request = _request(project, base, "run.plan-1", "planner", "", 50, 30, 60)
    request.ClearField("checks")
    request.limits.corrections, request.limits.turns = 3, 100
    request.plan.CopyFrom(worker_pb2.PlanWork(goal=goal, base_commit=base, roles=roles, number=1))
    return request


def verify_request(
    project: Path,
    commit: str,
    *,
    attempt_id: str = "run.verify-1",
    passing: Sequence[str] | None = None,
    red: Sequence[str] = (),
    timeout: float = 50,
    test_timeout: float = 30,
    verification: str = "python -m pytest -q",
) -> worker_pb2.ExecuteTaskRequest:
    """A request to verify a commit; where `passing` is None, as a run's base."""
    request = _request(project, commit, attempt_id, "test", verification, timeout, test_timeout, 60)
    request.verify.CopyFrom(worker_pb2.VerifyWork(commit=commit))
    if passing is not None:
        request.checks.baseline.CopyFrom(worker_pb2.Baseline(passing_tests=passing, red_tests=red))
    return request


def _request(
    project: Path,
    base: str,
    attempt_id: str,
    role: str,
    verification: str,
    timeout: float,
    test_timeout: float,
    grace: float,
) -> worker_pb2.ExecuteTaskRequest:
    limits = worker_pb2.AttemptLimits()
    limits.attempt_timeout.FromTimedelta(timedelta(seconds=timeout))
    limits.test_timeout.FromTimedelta(timedelta(seconds=test_timeout))
    limits.orphan_grace.FromTimedelta(timedelta(seconds=grace))
    setup_paths = [".venv"] if (project / ".venv").exists() else []
    return worker_pb2.ExecuteTaskRequest(
        attempt_id=attempt_id,
        run_id="run",
        role=role,
        repository=str(project),
        run_base_commit=base,
        checks=worker_pb2.Checks(verification=verification, setup_paths=setup_paths),
        limits=limits,
    )
