"""Tasks at the same time: they overlap, and what befalls one befalls no other."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codeframe.v1 import lead_pb2, state_pb2, worker_pb2
from services.runtime.channel import open_channel
from services.workers.model.conversation import Conversation
from services.workers.outcome import Outcome
from tests.attempts import outcome, task_request
from tests.fleet import FILES
from tests.git_project import git, make_project
from tests.integration.lead_stage import House, make_house, serve_lead, task
from tests.processes import descendants
from tests.worker_stage import Calls, Step, Worker, serving, write

MANY = 10


@pytest.fixture
def project(tmp_path: Path) -> Path:
    make_project(tmp_path / "project", FILES)
    return tmp_path / "project"


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async with serving(tmp_path / "data", slots=MANY) as worker:
        yield worker
    assert not descendants(), "a process was left behind"


def requests(
    worker: Worker, project: Path, scripts: dict[str, list[Step]], verification: str = "sh check.sh"
) -> dict[str, worker_pb2.ExecuteTaskRequest]:
    """Requests for tasks, each of which is done by its script."""
    worker.model.scripts |= scripts
    base = git(project, "rev-parse", "HEAD")
    return {
        name: task_request(project, base, name, passing=[], verification=verification, corrections=0)
        for name in scripts
    }


def writes(name: str, text: str = "green\n") -> Calls:
    return [write(f"lib/{name}.txt", text)]


async def test_all_have_started_before_the_first_ends(worker: Worker, project: Path) -> None:
    """Each model's turn waits for all others to be asked: one after the other, none would end."""
    all_started = asyncio.Barrier(MANY)

    async def wait(_: Conversation) -> Calls:
        await all_started.wait()
        return []

    names = [f"task{number}" for number in range(MANY)]
    asked = requests(worker, project, {name: [writes(name), wait] for name in names})
    async with asyncio.timeout(60):
        results = await asyncio.gather(*map(worker.result, asked.values()))
    assert [outcome(result) for result in results] == ["SUCCEEDED"] * MANY


async def test_test_runs_of_two_tasks_overlap_and_a_health_check_answers_meanwhile(
    worker: Worker, project: Path
) -> None:
    """Each run takes a second, and prints when it began and ended."""
    slow = "echo BEGAN=$(date +%s.%N); sleep 1; echo ENDED=$(date +%s.%N); sh check.sh"
    scripts: dict[str, list[Step]] = {name: [writes(name)] for name in ("one", "two")}
    asked = requests(worker, project, scripts, slow).values()
    answered = 0
    async with open_channel(worker.address) as channel, asyncio.TaskGroup() as group:
        health = health_pb2_grpc.HealthStub(channel)
        doing = [group.create_task(worker.result(one)) for one in asked]
        while not all(each.done() for each in doing):
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)  # cores are shared
            answered += answer.status == health_pb2.HealthCheckResponse.SERVING
            await asyncio.sleep(0.02)
    assert [outcome(each.result()) for each in doing] == ["SUCCEEDED"] * 2
    assert answered > 20
    logs = [await worker.artifact(one.attempt_id, "log") for one in asked]
    began, ended = (
        [float(found) for log in logs for found in re.findall(rf"^{word}=(.*)$", log, re.MULTILINE)]
        for word in ("BEGAN", "ENDED")
    )
    assert len(began) == len(ended) == 2
    assert max(began) < min(ended), "they ran at the same time"


async def test_what_befalls_one_attempt_befalls_no_other(worker: Worker, project: Path) -> None:
    """An exception, a cancel, a timeout and a red test, each of one attempt, while two others work."""
    all_started, others_ended = asyncio.Barrier(6), asyncio.Event()

    async def raises(_: Conversation) -> Calls:
        await all_started.wait()
        raise LookupError("a fault of our own")

    async def hangs(_: Conversation) -> Calls:
        await all_started.wait()
        await asyncio.Event().wait()
        return []

    async def is_red(_: Conversation) -> Calls:
        await all_started.wait()
        return writes("red", "RED\n")

    async def outlives_them(_: Conversation) -> Calls:
        await all_started.wait()
        await others_ended.wait()
        return []

    scripts: dict[str, list[Step]] = {
        "raises": [raises],
        "cancelled": [hangs],
        "late": [hangs],
        "red": [is_red],
        "first": [writes("first"), outlives_them],
        "second": [writes("second"), outlives_them],
    }
    asked = requests(worker, project, scripts)
    asked["late"].limits.attempt_timeout.FromSeconds(5)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        doing = {name: group.create_task(worker.result(one)) for name, one in asked.items()}
        await asyncio.wait([doing["raises"], doing["red"], doing["late"]])
        assert {name for name, each in doing.items() if not each.done()} == {"cancelled", "first", "second"}
        assert await worker.cancel("run.cancelled.1") == "OUTCOME_CANCELLED"
        await asyncio.wait([doing["cancelled"]])
        assert {name for name, each in doing.items() if not each.done()} == {"first", "second"}
        others_ended.set()
    assert {name: outcome(each.result()) for name, each in doing.items()} == {
        "raises": "INTERNAL",
        "cancelled": "CANCELLED",
        "late": "TIMED_OUT",
        "red": "VERIFICATION_FAILED",
        "first": "SUCCEEDED",
        "second": "SUCCEEDED",
    }
    assert sorted(worker.model.closed) == ["cancelled", "late"]


async def test_a_cancelled_run_and_a_failed_task_end_no_other(tmp_path: Path) -> None:
    """In the lead: one run is cancelled and one task fails for good, while all others are at work."""
    house: House = make_house(tmp_path)
    house.script.gate("slow", "doomed", "kept")
    house.script.endings["broken"] = deque([Outcome.INTERNAL])
    async with (
        house.worker(slots=8) as worker,
        serve_lead(tmp_path / "lead", house.project, worker.address) as lead,
    ):
        limits = lead_pb2.RunLimits(retries=0)
        first = await lead.create(task("slow"), task("broken"), task("kept"), limits=limits, request_id="1")
        second = await lead.create(task("doomed"), task("never", "doomed"), request_id="2")
        await house.script.until_running(
            f"{first.run_id}.slow.1", f"{first.run_id}.kept.1", f"{second.run_id}.doomed.1"
        )
        await lead.until(first.run_id, lambda run: run.counts.failed == 1)
        await lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=second.run_id))
        assert (await lead.ended(second.run_id)).state == state_pb2.RUN_STATE_CANCELLED
        assert set(worker.attempts.in_flight) == {f"{first.run_id}.slow.1", f"{first.run_id}.kept.1"}
        house.script.open("slow", "kept")
        await lead.ended(first.run_id)
        states = {
            name: state_pb2.TaskState.Name(each.state).removeprefix("TASK_STATE_")
            for run in (first, second)
            for name, each in (await lead.tasks(run.run_id)).items()
        }
        assert states == {
            "slow": "COMPLETED",
            "kept": "COMPLETED",
            "broken": "FAILED",
            "doomed": "CANCELLED",
            "never": "CANCELLED",
        }
