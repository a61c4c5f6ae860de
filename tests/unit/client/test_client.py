"""Calls: what is asked again, what is not, and what an error says."""

import asyncio
from datetime import timedelta

import grpc
import pytest

from codeframe.client import Client, CodeframeError
from codeframe.errors import Violation
from codeframe.v1 import lead_pb2, plan_pb2
from services.runtime.errors import Aborted, Internal, InvalidArgument, Unavailable
from tests.canned_lead import QUICK, CannedLead, serve
from tests.cuts import Cuts

PLAN = plan_pb2.Plan(title="Add a page", tasks=[plan_pb2.PlannedTask(id="api", title="The API")])


async def test_create_run_repeats_with_the_same_request(lead: CannedLead, client: Client) -> None:
    lead.refuse("CreateRun", grpc.StatusCode.UNAVAILABLE, Unavailable("UNAVAILABLE", "starting"))
    run = await client.create_run(PLAN, "/repository", labels={"a": "b"})
    assert run.title == "Add a page"
    first, second, third = lead.asked("CreateRun")
    assert first == second == third
    assert len(first.request_id) == 32


async def test_a_lead_that_takes_its_time_to_shake_hands_is_reached(lead: CannedLead) -> None:
    async with serve(lead) as address, Cuts(address, slow=0.5).listening() as proxy:
        async with Client(proxy.address, policy=QUICK) as client:
            await client.create_run(PLAN, "/repository")
        assert proxy.joined == 1, "at the first connection"


async def test_two_runs_have_two_request_ids(lead: CannedLead, client: Client) -> None:
    await client.create_run(PLAN, "/repository")
    await client.create_run(PLAN, "/repository")
    assert len({request.request_id for request in lead.asked("CreateRun")}) == 2
    assert len(lead.runs) == 2


async def test_a_refusal_is_not_asked_again(lead: CannedLead, client: Client) -> None:
    violation = Violation("plan.tasks[0].depends_on[0]", "no task x")
    lead.refuse("CreateRun", InvalidArgument("INVALID_PLAN", "the plan is wrong", violations=[violation]))
    with pytest.raises(CodeframeError) as raised:
        await client.create_run(PLAN, "/repository")
    assert raised.value.reason == "ERROR_REASON_INVALID_PLAN"
    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.violations == (violation,)
    assert len(lead.asked("CreateRun")) == 1


async def test_retry_info_is_obeyed(lead: CannedLead, client: Client) -> None:
    lead.runs.append(lead_pb2.Run(run_id="r"))
    lead.refuse("CancelRun", Aborted("CONTENTION", "others", retry_after=timedelta(milliseconds=300)))
    loop_time = asyncio.get_running_loop().time
    start = loop_time()
    assert (await client.cancel_run("r")).run_id == "r"
    assert loop_time() - start >= 0.3


async def test_a_wait_beyond_the_deadline_is_not_begun(lead: CannedLead) -> None:
    lead.refuse("CancelRun", Aborted("CONTENTION", "others", retry_after=timedelta(hours=1)))
    async with serve(lead) as address, Client(address, policy=QUICK, timeout=5) as client:
        with pytest.raises(CodeframeError) as raised:
            await client.cancel_run("r")
    assert raised.value.reason == "ERROR_REASON_CONTENTION"


async def test_an_internal_fault_is_asked_about_three_times(lead: CannedLead, client: Client) -> None:
    lead.refuse("GetRun", *(Internal("INTERNAL", "incident 5") for _ in range(5)))
    with pytest.raises(CodeframeError, match="incident 5"):
        await client.get_run("r")
    assert len(lead.asked("GetRun")) == 3


async def test_nobody_there_fails_at_the_deadline_without_a_reason(unused_tcp_port: int) -> None:
    async with Client(f"127.0.0.1:{unused_tcp_port}", policy=QUICK, timeout=0.5) as client:
        with pytest.raises(CodeframeError) as raised:
            await client.get_run("r")
    assert raised.value.reason == ""
    assert raised.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_a_lead_that_comes_back_is_found(lead: CannedLead, unused_tcp_port: int) -> None:
    lead.runs.append(lead_pb2.Run(run_id="r"))
    async with Client(f"127.0.0.1:{unused_tcp_port}", policy=QUICK) as client:
        for _ in range(2):
            async with serve(lead, unused_tcp_port):
                assert (await client.get_run("r")).run_id == "r"


async def test_lists_go_through_every_page(lead: CannedLead, client: Client) -> None:
    lead.runs = [lead_pb2.Run(run_id=f"r{n}", project="a" if n % 2 else "b") for n in range(250)]
    lead.tasks = [lead_pb2.Task(run_id="r7", task_id=str(n)) for n in range(201)]
    lead.attempts = [lead_pb2.Attempt(run_id="r7", attempt_id="r7.1.1")]
    lead.workers = [lead_pb2.Worker(name=f"w{n}") for n in range(100)]
    assert [run.run_id async for run in client.runs()] == [f"r{n}" for n in range(250)]
    assert len(lead.asked("ListRuns")) == 3
    assert len([run async for run in client.runs("a")]) == 125
    assert [task.task_id async for task in client.tasks("r7")] == [str(n) for n in range(201)]
    assert [attempt.attempt_id async for attempt in client.attempts("r7")] == ["r7.1.1"]
    assert len([worker async for worker in client.workers()]) == 100


async def test_an_artifact_goes_on_from_where_it_broke(lead: CannedLead, client: Client) -> None:
    data = bytes(range(256))
    lead.artifacts["r.t.1", "log"] = data
    lead.refuse("ReadArtifact", grpc.StatusCode.UNAVAILABLE)
    lead.refuse("ReadArtifactResponse", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert b"".join([chunk async for chunk in client.read_artifact("r.t.1", "log")]) == data
    assert [request.offset for request in lead.asked("ReadArtifact")] == [0, 0, 8, 16]
    assert b"".join([chunk async for chunk in client.read_artifact("r.t.1", "log", 250)]) == data[250:]
    assert [artifact.name for artifact in await client.list_artifacts("r.t.1")] == ["log"]


async def test_an_artifact_that_is_not_there(client: Client) -> None:
    with pytest.raises(CodeframeError) as raised:
        _ = [chunk async for chunk in client.read_artifact("r.t.1", "log")]
    assert raised.value.reason == "ERROR_REASON_ARTIFACT_NOT_FOUND"
