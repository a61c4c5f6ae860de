"""Clients in other languages, generated from the protos: what they say is what the journal holds."""

import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tests.cuts import Cuts
from tests.integration.lead_stage import Lead, make_house
from tests.interop import workshop
from tests.interop.program import Line, Program, running

# A cold build compiles grpc for Go, and installs from npm.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
REFERENCE = [sys.executable, str(ROOT / "examples/async_client.py")]
CLIENTS: dict[str, Callable[[], list[str]]] = {
    "typescript": workshop.typescript,
    "go": workshop.go,
    "buf-curl": lambda: [sys.executable, str(ROOT / "tests/interop/curl/client.py")],
    "sync-python": lambda: [sys.executable, str(ROOT / "examples/sync_client.py")],
}


@pytest.fixture(params=CLIENTS)
def command(request: pytest.FixtureRequest) -> list[str]:
    """A client's command, built where it must be."""
    try:
        return CLIENTS[request.param]()
    except workshop.NoGo as missing:
        pytest.skip(str(missing))


async def test_a_client_follows_a_run_across_a_dropped_connection(command: list[str], tmp_path: Path) -> None:
    """Beside `codeframe.client`, each with its own run: both say what the journal holds, and the same."""
    house = make_house(tmp_path)
    house.script.gate("b", "c")
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(house.worker(slots=4))
        lead: Lead = await stack.enter_async_context(house.lead(worker))
        proxy = await stack.enter_async_context(Cuts(lead.address).listening())
        clients: list[Program] = [
            await stack.enter_async_context(running(each, proxy.address, str(house.project), request_id))
            for each, request_id in ((command, "one"), (REFERENCE, "other"))
        ]
        for client in clients:
            await client.until(lambda client: told_usage(client, "b"))
        runs = [client.said("created")[0]["run_id"] for client in clients]

        # While nobody can watch, the runs go on; then the clients go on from their cursors, and live again.
        proxy.away = True
        proxy.cut()
        for client in clients:
            await client.until(lambda client: bool(client.said("dropped")))
        house.script.open("b")
        await house.script.until_waiting(*(f"{run}.c.1" for run in runs))
        proxy.away = False
        for client in clients:
            await client.until(lambda client: told_usage(client, "c"))
        house.script.open("c")

        for client, run_id in zip(clients, runs, strict=True):
            assert await client.ended() == 0, client.complaint
            assert client.said("event") == await journaled(lead, run_id)
            assert client.said("ended") == [await end_of(lead, run_id)]
            assert client.said("artifact") == [await log_of(lead, run_id)]
            assert client.said("error") == REFUSALS
        assert comparable(clients[0]) == comparable(clients[1])


REFUSALS = [
    {"code": "NOT_FOUND", "reason": "ERROR_REASON_RUN_NOT_FOUND", "fields": []},
    {
        "code": "INVALID_ARGUMENT",
        "reason": "ERROR_REASON_INVALID_PLAN",
        "fields": ["plan.tasks[0].depends_on[0]", "plan.tasks[1].depends_on[0]"],
    },
]


def told_usage(client: Program, task_id: str) -> bool:
    """Whether it said the last event of a task's attempt before the attempt waits."""
    return any(
        line.get("event", {}).get("event", {}).get("usage_recorded", {}).get("task_id") == task_id
        for line in client.lines
    )


async def journaled(lead: Lead, run_id: str) -> list[Any]:
    """A run's public events as the journal holds them, each at its place."""
    return [MessageToDict(each, preserving_proto_field_name=True) for each in await lead.journaled(run_id)]


async def end_of(lead: Lead, run_id: str) -> Line:
    run = await lead.run(run_id)
    return {"state": "RUN_STATE_COMPLETED", "completed": 3, "head_commit": run.head_commit}


async def log_of(lead: Lead, run_id: str) -> Line:
    """The log that the worker made, as the lead's first attempt of task a lists it."""
    (attempt,) = (each for each in await lead.attempts(run_id) if each.task_id == "a")
    (log,) = (each for each in attempt.result.artifacts if each.name == "log")
    assert log.size == len(b"a log\n" * 100_000)
    return {"attempt_id": attempt.attempt_id, "name": "log", "size": log.size, "sha256": log.sha256}


def comparable(client: Program) -> list[Any]:
    """What a client said, less what differs between two runs: ids, places, times, commits."""
    return [_without_own(line, client.said("created")[0]["run_id"]) for line in client.lines]


_OWN = {"run_id", "request_id", "attempt_id", "event_time", "revision", "cursor", "duration"} | {
    "commit", "commit_hash", "base_commit", "head_commit", "sha256", "branch"
}  # fmt: skip


def _without_own(value: Any, run_id: str) -> Any:
    match value:
        case dict():
            return {key: "…" if key in _OWN else _without_own(inner, run_id) for key, inner in value.items()}
        case list():
            return [_without_own(inner, run_id) for inner in value]
        case str():
            return value.replace(run_id, "RUN")
    return value
