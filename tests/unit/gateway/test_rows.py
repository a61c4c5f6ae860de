"""JSON: the lead's responses, and its errors by one table."""

import httpx2
import pytest

from codeframe.v1 import lead_pb2, state_pb2
from services.runtime.errors import InvalidArgument
from tests.canned_lead import CannedLead
from tests.unit.gateway.conftest import Gateway, serving


async def test_runs_page_by_page(lead: CannedLead, http: httpx2.AsyncClient) -> None:
    lead.runs = [lead_pb2.Run(run_id=f"r{n}", project="shop", title="T") for n in range(3)]
    first = (await http.get("/v1/runs", params={"page_size": 2})).json()
    assert [run["run_id"] for run in first["runs"]] == ["r0", "r1"]
    rest = await http.get("/v1/runs", params={"page_token": first["next_page_token"]})
    assert rest.headers["content-type"] == "application/json"
    assert [run["run_id"] for run in rest.json()["runs"]] == ["r2"]
    assert (await http.get("/v1/runs?project=other")).json() == {"runs": [], "next_page_token": ""}


async def test_a_run_with_its_zeros(lead: CannedLead, http: httpx2.AsyncClient) -> None:
    counts = lead_pb2.TaskCounts(total=2, pending=2)
    lead.runs = [lead_pb2.Run(run_id="r", state=state_pb2.RUN_STATE_RUNNING, counts=counts)]
    run = (await http.get("/v1/runs/r")).json()["run"]
    assert run["state"] == "RUN_STATE_RUNNING"
    assert run["counts"]["completed"] == 0
    assert "end_time" not in run


async def test_tasks_attempts_workers_and_artifacts(lead: CannedLead, http: httpx2.AsyncClient) -> None:
    lead.runs = [lead_pb2.Run(run_id="r")]
    lead.tasks = [lead_pb2.Task(run_id="r", task_id="1.5.1")]
    lead.attempts = [lead_pb2.Attempt(run_id="r", attempt_id="r.1.5.1.1")]
    lead.workers = [lead_pb2.Worker(name="w", sandbox_mode="none")]
    lead.artifacts["r.1.5.1.1", "log"] = b"x" * 1000
    lead.chunk = 7
    assert (await http.get("/v1/runs/r/tasks")).json()["tasks"][0]["task_id"] == "1.5.1"
    assert (await http.get("/v1/runs/r/attempts")).json()["attempts"][0]["attempt_id"] == "r.1.5.1.1"
    assert (await http.get("/v1/workers")).json()["workers"][0]["sandbox_mode"] == "none"
    listed = (await http.get("/v1/attempts/r.1.5.1.1/artifacts")).json()
    assert [each["name"] for each in listed["artifacts"]] == ["log"]
    artifact = await http.get("/v1/attempts/r.1.5.1.1/artifacts/log")
    assert artifact.content == b"x" * 1000
    assert artifact.headers["content-type"] == "text/plain; charset=utf-8"
    assert artifact.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status", "code", "reason"),
    [
        ("/v1/runs/nope", 404, "NOT_FOUND", "ERROR_REASON_RUN_NOT_FOUND"),
        ("/v1/attempts/a/artifacts/log", 404, "NOT_FOUND", "ERROR_REASON_ARTIFACT_NOT_FOUND"),
        ("/v1/nope", 404, "NOT_FOUND", "ERROR_REASON_NOT_SERVED"),
        ("/v1/runs?page_size=x", 400, "INVALID_ARGUMENT", "ERROR_REASON_INVALID_REQUEST"),
        ("/v1/runs?page=1", 400, "INVALID_ARGUMENT", "ERROR_REASON_INVALID_REQUEST"),
        ("/v1/runs?project=a&project=b", 400, "INVALID_ARGUMENT", "ERROR_REASON_INVALID_REQUEST"),
        ("/v1/runs?page_size=501", 400, "INVALID_ARGUMENT", "ERROR_REASON_INVALID_REQUEST"),
        ("/v1/events?start=now", 400, "INVALID_ARGUMENT", "ERROR_REASON_INVALID_REQUEST"),
        ("/v1/events?start=snapshot&cursor=", 400, "INVALID_ARGUMENT", "ERROR_REASON_INVALID_REQUEST"),
        ("/v1/events?run=r", 400, "INVALID_ARGUMENT", "ERROR_REASON_INVALID_REQUEST"),
        ("/v1/events?run_id=", 400, "INVALID_ARGUMENT", "ERROR_REASON_INVALID_REQUEST"),
    ],
)
async def test_errors(http: httpx2.AsyncClient, path: str, status: int, code: str, reason: str) -> None:
    answer = await http.get(path)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["reason"]) == (status, code, reason)
    assert error["message"]
    assert (status == 400) == bool(error["violations"])


async def test_who_opens_the_gateway_is_told_what_it_serves(http: httpx2.AsyncClient) -> None:
    message = (await http.get("/")).json()["error"]["message"]
    assert message.startswith("nothing answers GET /; GET /v1/runs lists runs")


async def test_a_write_is_not_served(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/v1/runs")).json()["error"]["reason"] == "ERROR_REASON_NOT_SERVED"


async def test_a_page_token_of_another_request(lead: CannedLead, http: httpx2.AsyncClient) -> None:
    lead.refuse("ListRuns", InvalidArgument("INVALID_PAGE_TOKEN", "not a token of this request"))
    answer = await http.get("/v1/runs?page_token=x")
    assert answer.status_code == 400
    assert answer.json()["error"]["reason"] == "ERROR_REASON_INVALID_PAGE_TOKEN"


async def test_a_lead_that_is_away_is_503(unused_tcp_port: int) -> None:
    async with serving(f"127.0.0.1:{unused_tcp_port}") as gateway, httpx2.AsyncClient() as http:
        answer = await http.get(f"http://{gateway.address}/v1/runs")
        assert answer.status_code == 503
        assert answer.json()["error"]["reason"] == "ERROR_REASON_UNAVAILABLE"
        assert str(unused_tcp_port) in answer.json()["error"]["message"]
        assert (await http.get(f"http://{gateway.address}/healthz")).json() == {"status": "SERVING"}


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:80", 200), ("127.3.2.1", 200), ("[::1]:8080", 200), ("evil.example", 403), ("[", 403)],
)
async def test_a_host_that_is_not_loopback_is_refused(gateway: Gateway, host: str, status: int) -> None:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"http://{gateway.address}/healthz", headers={"Host": host})
    assert answer.status_code == status
