"""Attempts from request to result: real git, real sandbox, real tests; only the model is a script."""

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf import json_format

from codeframe.v1 import events_pb2, evidence_pb2, state_pb2
from services.runtime.lag import recording_lag
from services.workers.model.conversation import Conversation
from tests.attempts import outcome, task_request, verify_request
from tests.git_project import bytes_of, commit_files, files_at, git
from tests.processes import descendants
from tests.python_project import python_project
from tests.worker_stage import Calls, Step, Worker, last_told, overwrite, prompt, serving, signal_of, write

FILES = {
    "shop/__init__.py": "",
    "shop/prices.py": "def total(prices):\n    return sum(prices)\n",
    "tests/test_prices.py": (
        "from shop.prices import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n"
    ),
}
KNOWN = "tests/test_prices.py::test_total"
RIGHT = "def mean(prices):\n    return sum(prices) / len(prices)\n"
WRONG = "def mean(prices):\n    return sum(prices)\n"
TEST = "from shop.mean import mean\n\n\ndef test_mean():\n    assert mean([1, 3]) == 2\n"


@pytest.fixture
def project(tmp_path: Path, python: Path) -> Path:
    python_project(tmp_path / "project", python, FILES)
    return tmp_path / "project"


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async with serving(tmp_path / "data") as worker:
        yield worker
        before = set((tmp_path / "data/attempts").iterdir())
    assert not before, "a workspace was left behind"
    assert not descendants(), "a process was left behind"


async def never(_: Conversation) -> Calls:
    """A turn that never ends."""
    await asyncio.Event().wait()
    return []


def head(project: Path) -> str:
    return git(project, "rev-parse", "HEAD")


async def do(worker: Worker, project: Path, *steps: Step, **asked: object) -> evidence_pb2.TaskResult:
    worker.model.scripts["sum"] = steps
    return await worker.result(task_request(project, head(project), passing=[KNOWN], **asked))  # type: ignore[arg-type]


async def test_a_task_is_done_verified_and_proven(worker: Worker, project: Path) -> None:
    before = bytes_of(project)
    result = await do(worker, project, [write("shop/mean.py", RIGHT), write("tests/test_mean.py", TEST)])
    assert outcome(result) == "SUCCEEDED", result.message
    assert bytes_of(project) == before

    assert git(project, "rev-parse", "codeframe/run/attempts/run.sum.1") == result.commit
    assert git(project, "rev-parse", f"{result.commit}^") == result.base_commit == head(project)
    assert (
        result.commit_subject
        == git(project, "log", "-1", "--format=%s", result.commit)
        == "feat(sum): The sum"
    )
    trailers = git(project, "log", "-1", "--format=%(trailers:unfold)", result.commit)
    assert trailers.split("\n") == [
        "Codeframe-Run: run",
        "Codeframe-Task: sum",
        "Codeframe-Attempt: run.sum.1",
    ]
    assert files_at(project, result.commit) == {".gitignore", *FILES, "shop/mean.py", "tests/test_mean.py"}
    assert list(result.files) == [
        evidence_pb2.FileChange(
            path=path,
            operation=evidence_pb2.FILE_OPERATION_CREATED,
            mode_after="100644",
            sha256_after=hashlib.sha256(text.encode()).hexdigest(),
        )
        for path, text in (("shop/mean.py", RIGHT), ("tests/test_mean.py", TEST))
    ]
    assert result.file_count == 2
    (verification,) = result.verifications
    assert (verification.green, verification.passed, verification.commit) == (True, 2, result.commit)
    assert verification.sandbox_mode == result.sandbox_mode != ""
    assert [(usage.model, usage.turns, usage.input_tokens) for usage in result.usage] == [
        ("claude-scripted", 2, 200)
    ]
    assert [
        (turn.turn, turn.usage.input_tokens, list(turn.provider_request_ids)) for turn in result.turns
    ] == [
        (1, 100, ["request-1"]),
        (2, 100, ["request-2"]),
    ]
    assert result.corrections == 0


async def test_evidence_is_kept_as_artifacts(worker: Worker, project: Path) -> None:
    result = await do(worker, project, [write("shop/mean.py", RIGHT), write("tests/test_mean.py", TEST)])
    kept = {artifact.name: artifact for artifact in result.artifacts}
    assert sorted(kept) == ["diff", "files", "log", "test-report", "transcript"]
    texts = {name: await worker.artifact("run.sum.1", name) for name in kept}
    for name, artifact in kept.items():
        assert artifact.sha256 == hashlib.sha256(texts[name].encode()).hexdigest()
        assert (artifact.size, artifact.truncated) == (len(texts[name].encode()), False)
    assert "+    return sum(prices) / len(prices)" in texts["diff"]
    report = json_format.Parse(texts["test-report"], evidence_pb2.TestReport())
    assert [(test.id, test.state) for test in report.tests] == [
        ("tests/test_mean.py::test_mean", evidence_pb2.TEST_STATE_PASSED),
        (KNOWN, evidence_pb2.TEST_STATE_PASSED),
    ]
    assert report.commit == result.commit
    files = json_format.Parse(texts["files"], evidence_pb2.FileChanges())
    assert list(files.files) == list(result.files)
    assert (files.base_commit, files.commit) == (result.base_commit, result.commit)
    assert "2 passed" in texts["log"]
    kinds = [json.loads(line)["kind"] for line in texts["transcript"].splitlines()]
    assert kinds == ["start", "user", "reply", "user", "reply", "verdict"]


async def test_every_step_is_told_in_order(worker: Worker, project: Path) -> None:
    result = await do(worker, project, [write("shop/mean.py", RIGHT)])
    notices = await worker.notices("run.sum.1")
    assert [notice.sequence for notice in notices] == list(range(1, result.last_sequence + 1))
    states = [n.task_status_changed for n in notices if n.HasField("task_status_changed")]
    assert [(state.phase, state.progress) for state in states] == [
        (state_pb2.TASK_PHASE_SETUP, 10),
        (state_pb2.TASK_PHASE_WORKING, 10),
        (state_pb2.TASK_PHASE_VERIFYING, 80),
    ]
    assert {state.status for state in states} == {state_pb2.TASK_STATE_IN_PROGRESS}
    assert {(state.task_id, state.agent_id) for state in states} == {("sum", "w1/backend")}
    (tests,) = [n.test_result for n in notices if n.HasField("test_result")]
    assert (tests.passed, tests.green, tests.task_id) == (1, True, "sum")
    assert len([n for n in notices if n.HasField("usage_recorded")]) == 2


async def test_what_the_tests_find_is_corrected(worker: Worker, project: Path) -> None:
    told: list[str] = []

    async def correct(conversation: Conversation) -> Calls:
        told.append(last_told(conversation))
        return [overwrite("shop/mean.py", RIGHT)]

    first = [write("shop/mean.py", WRONG), write("tests/test_mean.py", TEST)]
    result = await do(worker, project, first, [], correct)
    assert outcome(result) == "SUCCEEDED", result.message
    assert [one.green for one in result.verifications] == [False, True]
    assert result.verifications[0].red_tests == ["tests/test_mean.py::test_mean"]
    assert (result.verifications[1].commit, result.corrections) == (result.commit, 1)
    assert git(project, "rev-parse", f"{result.commit}~2") == head(project)
    assert "assert 4 == 2" in told[0]
    assert [(one.report_artifact, one.collected) for one in result.verifications] == [
        ("test-report-1", 2),
        ("test-report", 2),
    ]
    first_report = json_format.Parse(
        await worker.artifact("run.sum.1", "test-report-1"), evidence_pb2.TestReport()
    )
    failed = [test.id for test in first_report.tests if test.state == evidence_pb2.TEST_STATE_FAILED]
    assert failed == ["tests/test_mean.py::test_mean"]
    notices = await worker.notices("run.sum.1")
    statuses = [n.correction_attempt.status for n in notices if n.HasField("correction_attempt")]
    assert statuses == [events_pb2.CORRECTION_STATUS_STARTED, events_pb2.CORRECTION_STATUS_SUCCEEDED]


async def test_what_is_never_right_fails_with_the_work_pushed(worker: Worker, project: Path) -> None:
    result = await do(worker, project, [write("shop/mean.py", WRONG), write("tests/test_mean.py", TEST)])
    assert outcome(result) == "VERIFICATION_FAILED"
    assert (len(result.verifications), result.corrections) == (4, 3)
    assert "tests/test_mean.py::test_mean" in result.message
    assert git(project, "rev-parse", "codeframe/run/attempts/run.sum.1") == result.commit


async def test_no_change_to_the_base_is_red(worker: Worker, project: Path) -> None:
    result = await do(worker, project, corrections=1)
    assert outcome(result) == "VERIFICATION_FAILED"
    assert "nothing is changed" in result.message
    assert (result.commit, result.branch, list(result.verifications)) == ("", "", [])
    assert git(project, "for-each-ref", "refs/heads/codeframe") == ""


async def test_a_test_that_goes_missing_is_red(worker: Worker, project: Path) -> None:
    away = [overwrite("shop/prices.py", "def total(prices):\n    return sum(prices)\n\n")]
    worker.model.scripts["sum"] = [away]
    gone = task_request(project, head(project), passing=[KNOWN, "tests/test_gone.py::test"], corrections=0)
    result = await worker.result(gone)
    assert outcome(result) == "VERIFICATION_FAILED"
    assert "missing, though passing before: tests/test_gone.py::test" in result.message
    allowed = task_request(
        project,
        head(project),
        attempt_id="run.sum.2",
        passing=[KNOWN, "tests/test_gone.py::test"],
        may_change=["TESTS"],
    )
    assert outcome(await worker.result(allowed)) == "SUCCEEDED"


async def test_tests_red_at_the_base_count_against_nobody(worker: Worker, project: Path) -> None:
    commit_files(project, {"tests/test_old.py": "def test_old():\n    assert False\n"})
    worker.model.scripts["sum"] = [[write("shop/mean.py", RIGHT)]]
    request = task_request(project, head(project), passing=[KNOWN], red=["tests/test_old.py::test_old"])
    assert outcome(await worker.result(request)) == "SUCCEEDED"


async def test_a_task_that_nothing_verifies_is_unverified_and_keeps_to_its_scope(
    worker: Worker, project: Path
) -> None:
    async def look(conversation: Conversation) -> Calls:
        assert "nothing verifies this task" in last_told(conversation)
        return []

    first = [write("README.md", "# Shop\n"), ("run_tests", {})]
    result = await do(worker, project, first, look, verification="")
    assert (outcome(result), result.unverified, list(result.verifications)) == ("SUCCEEDED", True, [])
    assert git(project, "rev-parse", "codeframe/run/attempts/run.sum.1") == result.commit
    assert "No check of the project runs" in prompt(worker.model.conversations[0])
    nothing = await do(worker, project, verification="", attempt_id="run.sum.2", corrections=0)
    assert (outcome(nothing), nothing.unverified) == ("VERIFICATION_FAILED", True)
    assert "nothing is changed" in nothing.message


async def test_checks_are_asked_for_where_the_work_is_to_be_verified(worker: Worker, project: Path) -> None:
    for request in (task_request(project, head(project)), verify_request(project, head(project))):
        request.ClearField("checks")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await worker.execute(request)
        assert "checks are required" in str(refused.value.details())


async def test_a_project_without_tests_wastes_no_correction(
    worker: Worker, tmp_path: Path, python: Path
) -> None:
    bare = tmp_path / "bare"
    base = python_project(bare, python, {"a.py": "a = 1\n"})
    worker.model.scripts["sum"] = [[write("b.py", "b = 1\n")]]
    result = await worker.result(task_request(bare, base))
    assert outcome(result) == "NO_TESTS"
    assert (len(result.verifications), result.corrections) == (1, 0)
    assert "no tests yet" in prompt(worker.model.conversations[0])


async def test_a_write_outside_the_scope_is_caught_in_the_diff(worker: Worker, project: Path) -> None:
    """The tools refuse it; what an attempt goes on from, however it came to be, is judged too."""
    base = head(project)
    start = commit_files(project, {"tests/test_prices.py": "def test_total(): pass\n"})
    git(project, "reset", "--quiet", "--hard", base)
    git(project, "update-ref", "refs/heads/codeframe/run/earlier", start)
    worker.model.scripts["sum"] = [[write("shop/mean.py", RIGHT)]]
    request = task_request(project, base, start=start, passing=[KNOWN], corrections=0)
    result = await worker.result(request)
    assert outcome(result) == "VERIFICATION_FAILED"
    assert "outside the write scope" in result.message
    assert "tests/test_prices.py" in result.message


UNTIDY = """\
import os

def test_untidy():
    open("report.html", "w").write("left behind")
    open("shop/prices.py", "a").write("# touched")
    if os.path.exists("shop/__init__.py"):
        os.remove("shop/__init__.py")
    os.makedirs("out/deep", exist_ok=True)
    open("out/deep/result", "w").close()
"""


async def test_what_a_test_run_leaves_behind_is_not_the_agents_work(
    worker: Worker, tmp_path: Path, python: Path
) -> None:
    """The test role may write none of it, could not undo it, and is not judged by it."""
    project = tmp_path / "untidy"
    base = python_project(project, python, {**FILES, "tests/test_untidy.py": UNTIDY})

    async def look(conversation: Conversation) -> Calls:
        assert "2 passed" in last_told(conversation)
        return [("list_files", {}), ("read_file", {"path": "shop/prices.py"})]

    async def add(conversation: Conversation) -> Calls:
        assert "report.html" not in last_told(conversation)
        assert "touched" not in last_told(conversation)
        more = "from shop.prices import total\n\n\ndef test_more():\n    assert total([2, 2]) == 4\n"
        return [write("tests/test_more.py", more), ("run_tests", {})]

    worker.model.scripts["sum"] = [[("run_tests", {})], look, add]
    request = task_request(
        project, base, role="test", passing=[KNOWN, "tests/test_untidy.py::test_untidy"], corrections=0
    )
    result = await worker.result(request)
    assert outcome(result) == "SUCCEEDED", result.message
    assert [file.path for file in result.files] == ["tests/test_more.py"]


async def test_what_a_test_run_that_was_cut_off_left_is_not_pushed(
    worker: Worker, tmp_path: Path, python: Path
) -> None:
    project = tmp_path / "untidy"
    hang = UNTIDY + "    import time\n    time.sleep(60)\n"
    base = python_project(project, python, {**FILES, "tests/test_untidy.py": hang})
    worker.model.scripts["sum"] = [[write("shop/mean.py", RIGHT), ("run_tests", {})]]
    result = await worker.result(task_request(project, base, passing=[KNOWN], timeout=6))
    assert outcome(result) == "TIMED_OUT"
    assert [file.path for file in result.files] == ["shop/mean.py"]


async def test_the_agent_may_run_tests_while_it_works(worker: Worker, project: Path) -> None:
    async def look(conversation: Conversation) -> Calls:
        assert "2 passed" in last_told(conversation)
        return [("run_tests", {"paths": ["tests/test_mean.py"]})]

    async def look_again(conversation: Conversation) -> Calls:
        assert "1 passed" in last_told(conversation)
        return []

    first = [write("shop/mean.py", RIGHT), write("tests/test_mean.py", TEST), ("run_tests", {})]
    result = await do(worker, project, first, look, look_again)
    assert outcome(result) == "SUCCEEDED", result.message


async def test_a_hanging_test_ends_within_its_limit_with_its_children(worker: Worker, project: Path) -> None:
    hangs = (
        "import subprocess, time\n\n\ndef test_hangs():\n"
        "    subprocess.Popen(['sh', '-c', 'setsid sleep 600 & sleep 600'])\n    time.sleep(600)\n"
    )
    result = await do(worker, project, [write("tests/test_hangs.py", hangs)], test_timeout=2, corrections=0)
    assert outcome(result) == "VERIFICATION_FAILED"
    assert result.verifications[0].timed_out
    assert not result.verifications[0].HasField("exit_code")
    assert not descendants()


async def test_an_attempt_that_runs_out_of_time_pushes_what_it_has(worker: Worker, project: Path) -> None:
    result = await do(worker, project, [write("shop/mean.py", RIGHT)], never, timeout=1)
    assert outcome(result) == "TIMED_OUT"
    assert worker.model.closed == ["sum"]
    assert "shop/mean.py" in files_at(project, result.commit)
    assert result.usage[0].turns == 1


async def test_a_cancelled_test_run_leaves_no_process(worker: Worker, project: Path) -> None:
    waits = (
        "import subprocess, time\n\n\ndef test_waits():\n"
        "    subprocess.Popen(['setsid', 'sh', '-c', 'sleep 600 & echo started > started; exec sleep 600'])\n"
        "    time.sleep(600)\n"
    )
    ready: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
    tree = worker.data.attempt("run.sum.1") / "tree"
    async with AsyncExitStack() as stack:

        async def run(_: Conversation) -> Calls:
            ready.put_nowait(await stack.enter_async_context(signal_of(tree / "started")))
            return [("run_tests", {})]

        worker.model.scripts["sum"] = [[write("tests/test_waits.py", waits)], run]
        call = worker.execute(task_request(project, head(project), passing=[KNOWN]))
        assert await (await ready.get()).readline() == b"started\n"
        assert len(descendants()) >= 4  # the subreaper, the tests, and what they started
        assert await worker.cancel("run.sum.1") == "OUTCOME_CANCELLED"
        assert not descendants()
    result = (await call).result
    assert (outcome(result), files_at(project, result.commit) >= {"tests/test_waits.py"}) == (
        "CANCELLED",
        True,
    )


async def test_an_interrupted_attempt_is_gone_on_with(worker: Worker, project: Path) -> None:
    has_written = asyncio.Event()

    async def wait(conversation: Conversation) -> Calls:
        has_written.set()
        return await never(conversation)

    worker.model.scripts["sum"] = [[write("shop/mean.py", RIGHT)], wait]
    call = worker.execute(task_request(project, head(project), passing=[KNOWN]))
    await has_written.wait()
    await worker.cancel("run.sum.1")
    begun = (await call).result
    worker.model.scripts["sum"] = [[write("tests/test_mean.py", TEST)]]
    request = task_request(
        project, head(project), attempt_id="run.sum.2", passing=[KNOWN], start=begun.commit
    )
    result = await worker.result(request)
    assert outcome(result) == "SUCCEEDED", result.message
    assert git(project, "rev-parse", f"{result.commit}^") == begun.commit
    assert {file.path for file in result.files} == {"shop/mean.py", "tests/test_mean.py"}
    assert "an earlier attempt" in prompt(worker.model.conversations[-1])


async def test_an_unknown_commit_or_a_failed_setup_is_the_result(worker: Worker, project: Path) -> None:
    result = await worker.result(task_request(project, "f" * 40))
    assert outcome(result) == "INTERNAL"
    assert "has no commit ffff" in result.message
    request = task_request(project, head(project), attempt_id="run.sum.2")
    del request.checks.setup_paths[:]
    request.checks.setup = "echo broken >&2; exit 3"
    result = await worker.result(request)
    assert outcome(result) == "SETUP_FAILED"
    assert "broken" in result.message
    assert not worker.model.conversations


async def test_the_base_is_verified_whatever_is_red(worker: Worker, project: Path) -> None:
    commit_files(project, {"tests/test_old.py": "def test_old():\n    assert False\n"})
    result = await worker.result(verify_request(project, head(project)))
    assert outcome(result) == "SUCCEEDED", result.message
    report = json_format.Parse(
        await worker.artifact("run.verify-1", "test-report"), evidence_pb2.TestReport()
    )
    states = {test.id: evidence_pb2.TestState.Name(test.state) for test in report.tests}
    assert states == {"tests/test_old.py::test_old": "TEST_STATE_FAILED", KNOWN: "TEST_STATE_PASSED"}
    assert not result.verifications[0].green
    assert git(project, "for-each-ref", "refs/heads/codeframe") == ""


async def test_a_candidate_is_judged_by_what_is_known(worker: Worker, project: Path) -> None:
    commit = commit_files(project, {"shop/prices.py": "def total(prices):\n    return 0\n"})
    result = await worker.result(verify_request(project, commit, passing=[KNOWN]))
    assert (outcome(result), list(result.verifications[0].red_tests)) == ("VERIFICATION_FAILED", [KNOWN])
    known = verify_request(project, commit, attempt_id="run.verify-2", passing=[], red=[KNOWN])
    assert outcome(await worker.result(known)) == "VERIFICATION_FAILED"  # nothing passed


@pytest.mark.parametrize(
    ("files", "verification", "seconds", "expected"),
    [
        ({"tests/test_prices.py": None}, "python -m pytest -q", 30, "NO_TESTS"),
        (
            {"tests/test_slow.py": "import time\ndef test(): time.sleep(60)\n"},
            "python -m pytest -q",
            2,
            "TIMED_OUT",
        ),
        ({}, "no-such-command", 30, "SETUP_FAILED"),
    ],
)
async def test_a_base_that_cannot_be_verified_says_why(
    worker: Worker,
    project: Path,
    files: dict[str, str | None],
    verification: str,
    seconds: float,
    expected: str,
) -> None:
    commit = commit_files(project, files)
    asked = verify_request(project, commit, verification=verification, test_timeout=seconds)
    result = await worker.result(asked)
    assert outcome(result) == expected, result.message
    assert result.message


async def test_no_thread_and_no_held_up_loop_while_attempts_run(worker: Worker, project: Path) -> None:
    """A health check would wait no longer than this for its turn."""
    steps = [[write("shop/mean.py", RIGHT), write("tests/test_mean.py", TEST), ("run_tests", {})]]
    assert outcome(await do(worker, project, *steps)) == "SUCCEEDED"
    threads = set(threading.enumerate())
    requests = [
        task_request(project, head(project), attempt_id=f"run.sum.{n}", passing=[KNOWN]) for n in (2, 3, 4)
    ]
    with recording_lag() as lag:
        results = await asyncio.gather(*map(worker.result, requests))
    assert [outcome(result) for result in results] == ["SUCCEEDED"] * 3
    assert set(threading.enumerate()) == threads
    assert lag.longest < 0.5


async def test_roles_differ_in_what_they_may_write(worker: Worker, project: Path) -> None:
    """The test role writes tests only, and must add one; backend may not touch those of the base."""
    worker.model.scripts |= {
        "app": [[write("shop/mean.py", RIGHT)]],
        "tests": [
            [write("shop/mean.py", RIGHT)],
            [
                write(
                    "tests/test_more.py",
                    TEST.replace("mean", "total")
                    .replace("shop.total", "shop.prices")
                    .replace("== 2", "== 4"),
                )
            ],
        ],
        "old": [[overwrite("tests/test_prices.py", "def test_total(): pass\n")], [write("shop/x.py", "")]],
        "idle": [[overwrite("tests/test_prices.py", FILES["tests/test_prices.py"] + "\n")]],
    }
    asked = {"app": "backend", "tests": "test", "old": "backend", "idle": "test"}
    requests = [
        task_request(project, head(project), name, role=role, passing=[KNOWN], corrections=0,
                     may_change=["TESTS"] if name == "idle" else [])
        for name, role in asked.items()
    ]  # fmt: skip
    results = dict(zip(asked, await asyncio.gather(*map(worker.result, requests)), strict=True))
    assert {name: outcome(result) for name, result in results.items()} == dict.fromkeys(asked, "SUCCEEDED")
    assert [file.path for file in results["tests"].files] == ["tests/test_more.py"]
    assert results["tests"].commit_subject.startswith("test(tests): ")
    assert [file.path for file in results["old"].files] == ["shop/x.py"]


async def test_an_attempt_ends_once_its_allowance_is_spent_and_hands_in_its_work(
    worker: Worker, project: Path
) -> None:
    worker.model.scripts["sum"] = [[write("shop/mean.py", RIGHT)], [write("tests/test_mean.py", TEST)], never]
    request = task_request(project, head(project), passing=[KNOWN])
    request.limits.allowance.tokens = 200  # the script's turns take 110
    result = await worker.result(request)
    assert result.outcome == evidence_pb2.OUTCOME_ALLOWANCE_SPENT
    assert "220 of 200 tokens" in result.message
    assert {"shop/mean.py", "tests/test_mean.py"} <= files_at(project, result.commit)
    assert result.usage[0].turns == 2


async def test_an_allowance_of_time_is_no_timeout(worker: Worker, project: Path) -> None:
    worker.model.scripts["sum"] = [[write("shop/mean.py", RIGHT)], never]
    request = task_request(project, head(project), passing=[KNOWN])
    request.limits.allowance.wall_time.FromMilliseconds(2500)
    result = await worker.result(request)
    assert result.outcome == evidence_pb2.OUTCOME_ALLOWANCE_SPENT
    assert result.wall_time.ToTimedelta() >= request.limits.allowance.wall_time.ToTimedelta()


async def test_dollars_for_a_model_without_a_price_end_an_attempt_before_its_first_call(
    worker: Worker, project: Path
) -> None:
    request = task_request(project, head(project), passing=[KNOWN])
    request.limits.allowance.cost_micros = 1_000_000
    result = await worker.result(request)
    assert result.outcome == evidence_pb2.OUTCOME_LIMIT_EXCEEDED
    assert "the price of claude-scripted is not known" in result.message
    assert worker.model.conversations == []
