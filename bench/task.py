"""The one task that all do, again and again: a prompt of the real kind, a reply, no workspace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from codeframe.v1 import worker_pb2
from services.workers.desk import AgentRecord, BaseFacts, GitAnswer, Verdict
from services.workers.outcome import Outcome
from services.workers.work import AttemptRequest, TaskResult

MODEL = "claude-sonnet-5"
KEY = "bench-key"
ROLE = "backend"
SLOTS = 100  # attempts at the same time, as many as a worker may be given
INCARNATION = "bench"
COMMIT = "0" * 40


def request(attempt_id: str) -> worker_pb2.ExecuteTaskRequest:
    """A request to do the task."""
    made = worker_pb2.ExecuteTaskRequest(
        attempt_id=attempt_id,
        incarnation=INCARNATION,
        run_id="bench",
        role=ROLE,
        repository="/bench",
        run_base_commit=COMMIT,
        checks=worker_pb2.Checks(verification="python -m pytest -q", baseline=worker_pb2.Baseline()),
        task=worker_pb2.TaskWork(
            task_id="task",
            title="An endpoint that cancels an order",
            description="POST /orders/{id}/cancel sets the state, 409 where it was shipped.",
            number=1,
            base_commit=COMMIT,
            branch=f"codeframe/bench/attempts/{attempt_id}",
        ),
    )
    made.limits.attempt_timeout.FromSeconds(600)
    made.limits.test_timeout.FromSeconds(60)
    made.limits.orphan_grace.FromSeconds(600)
    made.limits.turns, made.limits.corrections = 100, 3
    return made


def result(request: AttemptRequest, record: AgentRecord, start: datetime, end: datetime) -> TaskResult:
    """What came of the task."""
    return TaskResult(
        request.attempt_id,
        Outcome.SUCCEEDED,
        "",
        0,
        start,
        end,
        base_commit=COMMIT,
        usage=record.usage,
        turns=record.paid,
        corrections=record.corrections,
    )


class NoWorkspace:
    """A desk without a worktree, at which everything is green at once. A Desk."""

    @property
    def root(self) -> Path:
        """Nothing is read or written."""
        return Path("/bench")

    @property
    def base(self) -> BaseFacts:
        """Nothing is known of it."""
        return BaseFacts("python -m pytest -q", has_tests=True)

    async def git(self, *arguments: str) -> GitAnswer:
        """Not called: the model asks for no tool."""
        raise AssertionError(f"git {arguments}")

    async def run_tests(self, paths: Sequence[str]) -> str:
        """Not called: the model asks for no tool."""
        raise AssertionError(f"tests of {paths}")

    async def verify(self) -> Verdict:
        """Green."""
        return Verdict(green=True)

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """No clock runs."""
        yield
