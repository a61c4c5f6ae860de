"""Each fault of docs/provider.md, in an attempt on a real worker: what it costs is time, not work.

Every attempt writes a file, meets the fault in the reply that writes the next one, and goes on where it can.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from codeframe.v1 import evidence_pb2, worker_pb2
from services.lead.machine.outcome import RULES
from services.lead.machine.outcome import Outcome as LeadsOutcome
from services.workers.model.claude import ClaudeModel
from services.workers.model.retry import Patience
from tests.attempts import task_request
from tests.git_project import files_at, git, make_project
from tests.unit.demo.serving import KEY, Serving
from tests.unit.demo.serving import serving as serving_claude
from tests.worker_stage import Worker, serving

CHECK = """\
mkdir -p out
echo '<testsuite><testcase classname="a" name="t"/></testsuite>' > out/report.xml
"""
BIG = "so much to read\n" * 400
CONTENT = "".join(f"line {n} of what may come by half\\n" for n in range(40))
TURN = f"""
  - when: {{{{turn: 1}}}}
    use: [read_file: {{{{path: big.txt}}}}, create_file: {{{{path: before.txt, content: whole}}}}]
  - when: {{{{last_text_contains: was cut off}}}}
    use: [create_file: {{{{path: after.txt, content: "{CONTENT}"}}}}]
    {{again}}
  - when: {{{{last_result_contains: created before.txt}}}}
    say: I write the next file.
    use: [create_file: {{{{path: after.txt, content: "{CONTENT}"}}}}]
    {{fault}}
  - {{{{say: Done.}}}}
"""
S = "SUCCEEDED"


@dataclass(frozen=True, slots=True)
class Case:
    """A fault of the second turn, as the script orders it, and what is to come of the attempt.

    `asked` is how often the second turn is asked for, all in all; 0 where that does not matter. `again` is
    a fault of each turn after a reply that was cut off.
    """

    fault: str
    outcome: str
    asked: int
    message: str = ""
    stall: float = 60.0
    again: str = ""


def faults(*orders: str) -> str:
    return f"faults: [{', '.join(orders)}]"


CASES = {
    "400": Case(faults("{status: 400}"), "PROVIDER_REJECTED", 1, "HTTP 400 invalid_request_error"),
    "401": Case(faults("{status: 401}"), "PROVIDER_REJECTED", 1, "HTTP 401 authentication_error"),
    "403": Case(faults("{status: 403}"), "PROVIDER_REJECTED", 1, "HTTP 403 permission_error"),
    "404": Case(faults("{status: 404}"), "PROVIDER_REJECTED", 1, "HTTP 404 not_found_error"),
    "413": Case(faults("{status: 413}"), S, 2),
    "413 for ever": Case(faults("{status: 413, times: 99}"), "STUCK", 2, "nothing is left to be shortened"),
    "429, retry-after 1 s": Case(faults("{status: 429, retry_after: 1, times: 3}"), S, 4),
    "429, retry-after 1 h": Case(
        faults("{status: 429, retry_after: 3600, times: 99}"), "PROVIDER_UNAVAILABLE", 1, "HTTP 429"
    ),
    "500": Case(faults("{status: 500, times: 2}"), S, 3),
    "502": Case(faults("{status: 502}"), S, 2),
    "503": Case(faults("{status: 503}"), S, 2),
    "504": Case(faults("{status: 504}"), S, 2),
    "500 for ever": Case(faults("{status: 500, times: 999}"), "PROVIDER_UNAVAILABLE", 0, "HTTP 500"),
    "529 for a minute": Case(faults("{status: 529, times: 6}"), S, 7),
    "529 for ever": Case(
        faults("{status: 529, times: 999}"), "PROVIDER_UNAVAILABLE", 0, "HTTP 529 overloaded"
    ),
    "error event": Case(faults("{error_after: 7}"), S, 2),
    "error event for ever": Case(
        faults("{error_after: 7, times: 999}"), "PROVIDER_UNAVAILABLE", 0, "overloaded"
    ),
    "dropped": Case(faults("{drop_after: 7}"), S, 2),
    "dropped for ever": Case(faults("{drop_after: 7, times: 999}"), "PROVIDER_UNAVAILABLE", 0),
    "stalled": Case(faults("{stall_after: 7}"), S, 0, stall=1.0),  # 2, but for other stalls of a busy machine
    "no message_stop": Case(faults("{end_after: 7}"), S, 2),
    "no message_stop for ever": Case(faults("{end_after: 7, times: 999}"), "PROVIDER_UNAVAILABLE", 0),
    "max_tokens in a tool call": Case("max_tokens: 60", S, 1),
    "max_tokens in a tool call for ever": Case(
        "max_tokens: 60", "STUCK", 1, "5 times", again="max_tokens: 60"
    ),
    "malformed tool JSON": Case(faults("{garble: true, times: 2}"), S, 3),
    "malformed tool JSON for ever": Case(
        faults("{garble: true, times: 3}"), "BAD_MODEL_REPLY", 3, "an input that is not JSON"
    ),
    "empty 200": Case(faults("{empty: true}"), S, 2),
    "empty 200 for ever": Case(faults("{empty: true, times: 999}"), "PROVIDER_UNAVAILABLE", 0),
    "refusal": Case("stop: refusal", "REFUSED", 1, "refused by the model"),
}
COSTS_A_RETRY = {"STUCK", "BAD_MODEL_REPLY"}


class HastyClock:
    """Whoever sleeps is there at once; the time that passes by itself passes too."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=sum(self.slept))

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Stage:
    """A worker whose client asks a scripted Claude, and a project."""

    worker: Worker
    claude: Serving
    clock: HastyClock
    project: Path
    base: str

    def request(self, timeout: float = 50) -> worker_pb2.ExecuteTaskRequest:
        request = task_request(
            self.project, self.base, "files", verification="sh check.sh", timeout=timeout, passing=["a::t"]
        )
        request.checks.report = "out/report.xml"
        request.task.description = "Write the files. [script: files]"
        request.task.model = "claude-sonnet-5"
        return request

    def asked(self, turn: int) -> int:
        """How often a turn was asked for."""
        return sum(request["turn"] == turn for request in self.claude.requests())

    def pushed(self, result: evidence_pb2.TaskResult) -> dict[str, str]:
        """The files of the commit that was pushed, less the base's, with what is in them."""
        assert git(self.project, "rev-parse", result.branch) == result.commit
        names = files_at(self.project, result.commit) - files_at(self.project, self.base)
        return {name: git(self.project, "show", f"{result.commit}:{name}") for name in names}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("provider") / "project"
    make_project(where, {"check.sh": CHECK, "big.txt": BIG, ".gitignore": "out/\n"})
    return where


@asynccontextmanager
async def staged(
    folder: Path, project: Path, fault: str, stall: float = 60.0, again: str = ""
) -> AsyncIterator[Stage]:
    clock, chance = HastyClock(), itertools.cycle([0.1, 0.9, 0.5])
    script = "marker: files\nsteps:" + TURN.format(fault=fault, again=again)
    async with serving_claude(folder, {"files.yaml": script}) as claude:
        patience = Patience(stall=stall)
        model = ClaudeModel(KEY, claude.url, clock=clock, chance=lambda: next(chance), patience=patience)
        try:
            async with serving(folder / "data", claude=model, clock=clock) as worker:
                yield Stage(worker, claude, clock, project, git(project, "rev-parse", "HEAD"))
        finally:
            await model.close()


@pytest.mark.parametrize("name", CASES)
async def test_a_fault_costs_time_and_not_work(tmp_path: Path, project: Path, name: str) -> None:
    case = CASES[name]
    attempt_id = f"run.{list(CASES).index(name)}.1"
    async with staged(tmp_path, project, case.fault, case.stall, case.again) as stage:
        result = await stage.worker.result(replace_id(stage.request(), attempt_id))
        asked = stage.asked(2)
    assert evidence_pb2.Outcome.Name(result.outcome) == f"OUTCOME_{case.outcome}", result.message
    assert case.message in result.message
    pushed = stage.pushed(result)
    assert pushed["before.txt"] == "whole"
    whole = CONTENT.replace("\\n", "\n").strip()
    assert pushed.get("after.txt") == (whole if case.outcome == S else None), "all of it or nothing"
    assert asked == case.asked or not case.asked
    assert sum(stage.clock.slept) <= 600


@pytest.mark.parametrize("name", CASES)
def test_a_fault_costs_a_retry_only_where_the_table_says_so(name: str) -> None:
    outcome = CASES[name].outcome
    rule = RULES.get(LeadsOutcome[outcome])
    assert (rule is not None and rule.costs_retry) == (outcome in COSTS_A_RETRY)


async def test_a_model_that_the_provider_does_not_have_is_rejected(tmp_path: Path, project: Path) -> None:
    async with staged(tmp_path, project, "") as stage:
        request = stage.request()
        request.task.model = "claude-nobody-9"
        result = await stage.worker.result(request)
    assert result.outcome == evidence_pb2.OUTCOME_PROVIDER_REJECTED
    assert "HTTP 404 not_found_error: model: claude-nobody-9" in result.message


async def test_nothing_is_asked_again_once_the_attempts_time_is_over(tmp_path: Path, project: Path) -> None:
    async with staged(tmp_path, project, faults("{stall_after: 7, times: 99}")) as stage:
        request = replace_id(stage.request(timeout=8), "run.late.1")
        result = await stage.worker.result(request)
        asked = stage.asked(2)
    assert result.outcome == evidence_pb2.OUTCOME_TIMED_OUT
    assert asked == 1
    assert stage.pushed(result) == {"before.txt": "whole"}


async def test_a_pause_is_told_by_every_heartbeat_and_description(tmp_path: Path, project: Path) -> None:
    async with staged(tmp_path, project, CASES["429, retry-after 1 h"].fault) as stage:
        request = replace_id(stage.request(), "run.paused.1")
        await stage.worker.result(request)
        described = await stage.worker.stub.DescribeWorker(worker_pb2.DescribeWorkerRequest())
        batches = [batch async for batch in stage.worker.watch("run.paused.1")]
        now = stage.clock.now()
    (pause,) = described.provider_pauses
    assert [each.model_family for each in batches[-1].provider_pauses] == ["claude-sonnet"]
    assert pause.model_family == "claude-sonnet"
    assert len(pause.key_fingerprint) == 12
    assert pause.message.startswith("HTTP 429 rate_limit_error: ")
    assert 3500 < (pause.resume_time.ToDatetime(UTC) - now).total_seconds() < 3602


def replace_id(request: worker_pb2.ExecuteTaskRequest, attempt_id: str) -> worker_pb2.ExecuteTaskRequest:
    """The request for another attempt, on a branch of its own."""
    request.attempt_id, request.task.branch = attempt_id, f"codeframe/run/attempts/{attempt_id}"
    return request
