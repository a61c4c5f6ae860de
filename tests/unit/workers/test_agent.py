"""The agent's loop, driven by a model that says what a test tells it."""

import asyncio
import inspect
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from codeframe.plan import Protected
from services.workers.agent import WorkerAgent
from services.workers.broadcast import (
    Activity,
    Correction,
    CorrectionStatus,
    Notice,
    Phase,
    TaskInProgress,
    TurnPaid,
)
from services.workers.desk import Verdict
from services.workers.model.conversation import Conversation, Reply, Stop, ToolCall, TurnObserver
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.role_agents import BackendWorkerAgent, FrontendWorkerAgent, TestWorkerAgent
from services.workers.transcript import MAX_BYTES, Transcript
from services.workers.work import Limits, ModelUsage, PreviousAttempt, TaskWork
from tests.unit.workers.git_workspace import GitDesk, git_workspace

TASK = TaskWork(
    "1.2", "Add a sum", "Write `sum.py`.\n\n[script: sum]", 1, "a" * 40, "codeframe/r/attempts/1.2/1"
)
GREEN = Verdict(green=True)
RED = Verdict(green=False, summary="1 of 3 tests failed", text="FAILED test_sum: assert 3 == 4")
NO_TESTS = Verdict(green=False, summary="no test was found", final=Outcome.NO_TESTS)
USAGE = ModelUsage("claude-test-1", 1, 100, 20, 30, 40)

Role = Callable[..., WorkerAgent]
Say = Reply | Exception | Callable[[TurnObserver], object]


def done(text: str = "I am done.") -> Reply:
    return Reply(({"type": "text", "text": text},), text, (), Stop.END_TURN, "req")


def use(*calls: tuple[str, dict[str, object]]) -> Reply:
    made = tuple(ToolCall(f"toolu_{n}", name, given) for n, (name, given) in enumerate(calls))
    content = tuple({"type": "tool_use", "id": c.id, "name": c.name, "input": c.input} for c in made)
    return Reply(content, "", made, Stop.TOOL_USE, "req")


def write(path: str, content: str = "x\n") -> Reply:
    return use(("create_file", {"path": path, "content": content}))


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class SayingModel:
    """Says one thing after the other; each turn takes two seconds and is paid."""

    def __init__(self, clock: HandClock, says: Sequence[Say]) -> None:
        self._clock = clock
        self._says = iter(says)
        self.asked: list[Conversation] = []

    async def turn(self, conversation: Conversation, observer: TurnObserver) -> Reply:
        self.asked.append(conversation)
        said = next(self._says)
        await self._clock.sleep(2)
        observer.paid(USAGE, "req")
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Reply):
            return said
        told = said(observer)
        if inspect.isawaitable(told):
            await told
        return done()


class Attempt:
    """An agent at work, and all that can be seen of it."""

    def __init__(self, desk: GitDesk, says: Sequence[Say], limits: Limits, role: Role) -> None:
        self.desk = desk
        self.clock = HandClock()
        self.model = SayingModel(self.clock, says)
        self.notices: list[Notice] = []
        self.agent = role(
            self.model, desk, self._broadcast, model_name="claude-default", limits=limits, clock=self.clock
        )

    async def _broadcast(self, notice: Notice) -> None:
        self.notices.append(notice)

    async def ends(self, task: TaskWork = TASK) -> AttemptFailed:
        with pytest.raises(AttemptFailed) as raised:
            await self.agent.execute_task(task)
        return raised.value

    def told(self, turn: int) -> str:
        """What the model was told last before that turn, from 1."""
        last = self.model.asked[turn - 1].messages[-1]
        assert not isinstance(last, Reply)
        return last.text + "".join(result.text for result in last.results)

    @property
    def corrections(self) -> list[Correction]:
        return [notice for notice in self.notices if isinstance(notice, Correction)]


Start = Callable[..., Attempt]


@pytest.fixture
async def start(tmp_path: Path) -> Start:
    root = tmp_path / "workspace"
    root.mkdir()
    await git_workspace(root)

    def started(
        *says: Say,
        verdicts: Sequence[Verdict] = (GREEN,),
        limits: Limits = Limits(),  # noqa: B008
        role: Role = BackendWorkerAgent,
        has_tests: bool = True,
    ) -> Attempt:
        return Attempt(GitDesk(root, verdicts, has_tests), says, limits, role)

    return started


async def test_it_works_until_its_work_is_green(start: Start) -> None:
    attempt = start(write("sum.py"), done())
    record = await attempt.agent.execute_task(TASK)
    assert attempt.desk.verified == [{"sum.py": "x\n"}]
    assert (record.turns, record.corrections, record.waited) == (2, 0, timedelta())
    assert record.usage == (ModelUsage("claude-test-1", 2, 200, 40, 60, 80),)
    assert attempt.notices == [
        TaskInProgress(Phase.WORKING, 10),
        TurnPaid(1, USAGE, "req", timedelta(seconds=2)),
        Activity("tool", "create_file sum.py"),
        TurnPaid(2, USAGE, "req", timedelta(seconds=2)),
        Activity("model", "I am done."),
    ]


@pytest.mark.parametrize(
    ("reds", "corrections", "verifications"), [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 4)]
)
async def test_corrections_are_counted(start: Start, reds: int, corrections: int, verifications: int) -> None:
    attempt = start(*[done()] * 5, verdicts=[*[RED] * reds, GREEN])
    record = await attempt.agent.execute_task(TASK)
    assert record.corrections == corrections
    assert len(attempt.desk.verified) == verifications
    assert [notice.status for notice in attempt.corrections] == [
        status
        for n in range(1, corrections + 1)
        for status in (
            CorrectionStatus.STARTED,
            CorrectionStatus.SUCCEEDED if n == corrections else CorrectionStatus.FAILED,
        )
    ]


async def test_what_is_never_green_ends_after_three_corrections_and_four_verifications(start: Start) -> None:
    attempt = start(*[done()] * 5, verdicts=[RED] * 4)
    failed = await attempt.ends()
    assert failed.outcome is Outcome.VERIFICATION_FAILED
    assert "1 of 3 tests failed" in failed.message
    assert "assert 3 == 4" in failed.message
    assert attempt.agent.record.corrections == 3
    assert len(attempt.desk.verified) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 red: answer\n\nassert 41 == 42", "1 red: answer\n\nassert 41 == 42"),
        ("assert 41 == 42", "1 red: answer\n\nassert 41 == 42"),
        ("", "1 red: answer"),
    ],
)
async def test_a_failure_says_once_what_is_red(start: Start, text: str, message: str) -> None:
    red = Verdict(green=False, summary="1 red: answer", text=text)
    attempt = start(done(), verdicts=[red], limits=Limits(corrections=0))
    assert (await attempt.ends()).message == message


async def test_a_correction_is_told_the_failing_output(start: Start) -> None:
    attempt = start(done(), done(), verdicts=[RED, GREEN])
    await attempt.agent.execute_task(TASK)
    assert attempt.told(2).startswith(
        "Your work is not accepted:\n\n1 of 3 tests failed\n\nFAILED test_sum: assert 3 == 4\n\n"
    )
    assert "correction 1 of 3" in attempt.told(2)
    assert attempt.corrections == [
        Correction(1, 3, CorrectionStatus.STARTED, "1 of 3 tests failed"),
        Correction(1, 3, CorrectionStatus.SUCCEEDED),
    ]
    assert TaskInProgress(Phase.CORRECTING, 80) in attempt.notices


async def test_a_correction_says_once_what_is_red(start: Start) -> None:
    red = Verdict(green=False, summary="1 red: answer", text="1 red: answer\n\nassert 41 == 42")
    attempt = start(done(), done(), verdicts=[red, GREEN])
    await attempt.agent.execute_task(TASK)
    assert attempt.told(2).count("1 red: answer") == 1
    assert "assert 41 == 42" in attempt.told(2)


async def test_no_tests_wastes_no_correction(start: Start) -> None:
    attempt = start(done(), verdicts=[NO_TESTS], has_tests=False)
    failed = await attempt.ends()
    assert (failed.outcome, failed.message) == (Outcome.NO_TESTS, "no test was found")
    assert attempt.corrections == []
    assert "The project has no tests yet" in attempt.told(1)


async def test_no_corrections_may_be_allowed(start: Start) -> None:
    attempt = start(done(), verdicts=[RED], limits=Limits(corrections=0))
    assert (await attempt.ends()).outcome is Outcome.VERIFICATION_FAILED


async def test_the_prompt_tells_task_base_and_the_attempt_before(start: Start) -> None:
    attempt = start(done())
    task = TaskWork(
        "1.2", "Add a sum", TASK.description, 2, "a" * 40, "codeframe/x", "b" * 40, "claude-other",
        frozenset({Protected.DEPENDENCIES}),
        PreviousAttempt("CONFLICT", "CONFLICT (content): sum.py", "+++ b/sum.py", "test_sum\nassert 3 == 4"),
    )  # fmt: skip
    await attempt.agent.execute_task(task)
    told = attempt.told(1)
    assert told.startswith(f"# Task 1.2: Add a sum\n\n{TASK.description}\n")
    for fact in (
        "`python -m pytest`",
        "The project has tests",
        "may also change: dependencies",
        "earlier attempt",
    ):
        assert fact in told
    assert "It ended as CONFLICT:\n\nCONFLICT (content): sum.py" in told
    assert "Tests that were red then:\n\ntest_sum\nassert 3 == 4" in told
    assert "What it changed, which is in your workspace:\n\n+++ b/sum.py" in told
    assert attempt.model.asked[0].model == "claude-other"


async def test_the_prefix_of_a_conversation_never_changes(start: Start) -> None:
    attempt = start(write("a.py"), write("b.py"), done(), done(), verdicts=[RED, GREEN])
    await attempt.agent.execute_task(TASK)
    for before, after in zip(attempt.model.asked, attempt.model.asked[1:], strict=False):
        assert (after.model, after.system, after.tools) == (before.model, before.system, before.tools)
        assert after.messages[: len(before.messages)] == before.messages
    assert "1.2" not in attempt.model.asked[0].system
    assert attempt.model.asked[0].model == "claude-default"


async def test_a_tool_error_is_shown_to_the_model_which_goes_on(start: Start) -> None:
    attempt = start(write("tests/test_old.py"), use(("read_file", {"path": "gone"})), done())
    await attempt.agent.execute_task(TASK)
    assert "is a test file that the base has" in attempt.told(2)
    assert "there is no such file" in attempt.told(3)


async def test_tools_run_only_where_the_reply_asks_for_them(start: Start) -> None:
    cut = Reply(({"type": "text", "text": "I"},), "I", (), Stop.CUT_OFF, "req")
    attempt = start(cut, done())
    await attempt.agent.execute_task(TASK)
    assert "cut off" in attempt.told(2)


async def test_turns_have_a_limit(start: Start) -> None:
    attempt = start(*[write(f"{n}.py") for n in range(9)], limits=Limits(turns=3))
    failed = await attempt.ends()
    assert (failed.outcome, failed.message) == (Outcome.STUCK, "not done after 3 turns")
    assert len(attempt.model.asked) == 3


async def test_the_same_action_again_and_again_is_stuck(start: Start) -> None:
    attempt = start(*[use(("grep", {"pattern": " " * n + "a"})) for n in range(9)])
    failed = await attempt.ends()
    assert failed.outcome is Outcome.STUCK
    assert "grep a" in failed.message
    assert len(attempt.model.asked) == 5


async def test_going_to_and_fro_is_stuck_too(start: Start) -> None:
    to_and_fro = [use(("grep", {"pattern": "a"})), use(("grep", {"pattern": "b"}))] * 9
    attempt = start(*to_and_fro)
    assert (await attempt.ends()).outcome is Outcome.STUCK
    assert len(attempt.model.asked) < 12


async def test_running_the_tests_between_changes_is_not_stuck(start: Start) -> None:
    says = [say for n in range(9) for say in (write(f"{n}.py"), use(("run_tests", {})))]
    attempt = start(*says, done())
    await attempt.agent.execute_task(TASK)
    assert len(attempt.desk.ran) == 9


@pytest.mark.parametrize(
    "outcome",
    [Outcome.REFUSED, Outcome.BAD_MODEL_REPLY, Outcome.PROVIDER_REJECTED, Outcome.PROVIDER_UNAVAILABLE],
)
async def test_a_failed_turn_ends_the_attempt_is_paid_and_leaves_no_partial_file(
    start: Start, outcome: Outcome
) -> None:
    attempt = start(write("whole.py"), AttemptFailed(outcome, "the provider's detail"))
    failed = await attempt.ends()
    assert (failed.outcome, failed.message) == (outcome, "the provider's detail")
    assert attempt.desk.verified == []
    assert attempt.desk.files() == {"whole.py": "x\n"}
    assert [notice.turn for notice in attempt.notices if isinstance(notice, TurnPaid)] == [1, 2]
    assert attempt.agent.record.usage[0].turns == 2


async def test_waiting_for_the_provider_stops_the_clock_and_is_told(start: Start) -> None:
    attempt = start(lambda observer: observer.wait(30, "HTTP 529: Overloaded"))
    record = await attempt.agent.execute_task(TASK)
    assert record.waited == timedelta(seconds=30)
    assert attempt.desk.stopped == 1
    assert Activity("model", "asks again in 30 s: HTTP 529: Overloaded") in attempt.notices
    assert TurnPaid(1, USAGE, "req", timedelta(seconds=2)) in attempt.notices


async def test_the_tries_of_a_turn_are_paid_as_one_turn(start: Start) -> None:
    broken = ModelUsage("claude-test-1", 1, 100, 1, 0, 0, incomplete=True)
    attempt = start(lambda observer: observer.paid(broken, "req_2"))
    record = await attempt.agent.execute_task(TASK)
    whole = ModelUsage("claude-test-1", 1, 200, 21, 30, 40, incomplete=True)
    assert record.usage == (whole,)
    assert TurnPaid(1, whole, "req_2", timedelta(seconds=2)) in attempt.notices


async def test_a_cancelled_agent_stops_and_its_usage_is_kept(start: Start) -> None:
    asked = asyncio.Event()

    async def hang(observer: TurnObserver) -> None:
        asked.set()
        await asyncio.Event().wait()

    attempt = start(write("a.py"), hang)
    running = asyncio.create_task(attempt.agent.execute_task(TASK))
    await asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    record = attempt.agent.record
    assert record.turns == 2
    assert record.usage == (ModelUsage("claude-test-1", 2, 200, 40, 60, 80),)
    assert attempt.desk.verified == []


async def test_a_broadcast_that_fails_ends_the_attempt(start: Start) -> None:
    attempt = start(done())

    async def full(notice: Notice) -> None:
        raise AttemptFailed(Outcome.LIMIT_EXCEEDED, "over 10,000 notices")

    attempt.agent = BackendWorkerAgent(
        attempt.model, attempt.desk, full, model_name="m", limits=Limits(), clock=attempt.clock
    )
    assert (await attempt.ends()).outcome is Outcome.LIMIT_EXCEEDED


async def test_the_transcript_tells_everything_that_was_said(start: Start) -> None:
    attempt = start(write("a.py"), done(), done(), verdicts=[RED, GREEN])
    record = await attempt.agent.execute_task(TASK)
    said = [json.loads(line) for line in record.transcript.splitlines()]
    assert [entry["kind"] for entry in said] == [
        "start", "user", "reply", "user", "reply", "verdict", "user", "reply", "verdict",
    ]  # fmt: skip
    assert said[3]["results"] == [{"call": "toolu_0", "text": "created a.py", "error": False}]
    assert said[5]["text"] == RED.text
    assert not record.transcript_truncated


def test_a_transcript_has_a_bound() -> None:
    transcript, now = Transcript(), datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(20):
        transcript.add(now, "user", text="x" * 1024 * 1024)
    transcript.add(now, "user", text="short")
    assert transcript.truncated
    assert MAX_BYTES - 2 * 1024 * 1024 < len(transcript.data()) <= MAX_BYTES
    assert all(json.loads(line) for line in transcript.data().splitlines())


@pytest.mark.parametrize(
    ("role", "own", "path", "refused"),
    [
        (BackendWorkerAgent, "edit_file", "app.py", "tests/test_old.py"),
        (FrontendWorkerAgent, "add_component", "src/App.jsx", "app.py"),
        (TestWorkerAgent, "outline", "tests/test_old.py", "app.py"),
    ],
)
async def test_each_role_has_its_tools_and_its_scope(
    start: Start, role: type[WorkerAgent], own: str, path: str, refused: str
) -> None:
    assert inspect.iscoroutinefunction(role.execute_task)
    attempt = start(write(path), write(refused), done(), role=role)
    await attempt.agent.execute_task(TASK)
    assert own in [spec.name for spec in attempt.model.asked[0].tools]
    assert attempt.desk.verified == [{path: "x\n"}]
