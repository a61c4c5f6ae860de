"""Clients in other languages, generated from the protos: what they say is what the journal holds."""

import asyncio
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from services.workers.model.conversation import Conversation
from tests.contract.walks import PROJECT
from tests.cuts import Cuts
from tests.git_project import make_project
from tests.integration.lead_stage import Lead, serve_lead
from tests.interop import workshop
from tests.interop.program import Line, Program, running
from tests.worker_stage import Calls, serving, write

# A cold build compiles grpc for Go, and installs from npm.
pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
LONG = "A line of a file that is long.\n" * 20_000
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
    project = tmp_path / "shop"
    make_project(project, PROJECT)
    async with (
        serving(tmp_path / "worker") as worker,
        serve_lead(tmp_path / "lead", project, worker.address) as lead,
        Cuts(lead.address).listening() as proxy,
        running(command, proxy.address, str(project), "one") as one,
        running(REFERENCE, proxy.address, str(project), "other") as other,
    ):
        clients, gates = (one, other), {name: Gate() for name in "bc"}
        worker.model.scripts |= {"a": [[write("a.txt", LONG)]]}
        worker.model.scripts |= {name: [[write(f"{name}.txt", name)], gates[name]] for name in "bc"}
        for client in clients:
            await client.until(lambda client: told_usage(client, "b"))
        runs = [client.said("created")[0]["run_id"] for client in clients]

        # While nobody can watch, the runs go on; then the clients go on from their cursors, and live again.
        proxy.away = True
        proxy.cut()
        for client in clients:
            await client.until(lambda client: bool(client.said("dropped")))
        gates["b"].open.set()
        await gates["c"].reached(2)
        proxy.away = False
        for client in clients:
            await client.until(lambda client: told_usage(client, "c"))
        gates["c"].open.set()

        for client, run_id in zip(clients, runs, strict=True):
            assert await client.ended() == 0, client.complaint
            assert client.said("event") == await journaled(lead, run_id)
            assert_it_went_on_from_where_it_was(client)
            assert client.said("ended") == [await end_of(lead, run_id)]
            assert client.said("artifact") == [await diff_of(lead, run_id)]
            assert client.said("error") == REFUSALS
        assert comparable(one) == comparable(other)


class Gate:
    """A turn of the model's that comes to nothing, once it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self._waiting = 0
        self._changed = asyncio.Condition()

    async def __call__(self, conversation: Conversation) -> Calls:
        async with self._changed:
            self._waiting += 1
            self._changed.notify_all()
        await self.open.wait()
        return ()

    async def reached(self, count: int) -> None:
        """Return once so many attempts wait here."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting == count)


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


def assert_it_went_on_from_where_it_was(client: Program) -> None:
    """The cursor that it told of each drop lies behind the event before, and before the one after."""
    before = 0
    for at, line in enumerate(client.lines):
        if "event" in line:
            before = int(line["event"]["revision"])
        elif "dropped" in line:
            after = next(int(each["event"]["revision"]) for each in client.lines[at:] if "event" in each)
            assert before <= int(line["dropped"]["cursor"].rpartition(".")[2]) < after


async def journaled(lead: Lead, run_id: str) -> list[Any]:
    """A run's public events as the journal holds them, each at its place."""
    return [MessageToDict(each, preserving_proto_field_name=True) for each in await lead.journaled(run_id)]


async def end_of(lead: Lead, run_id: str) -> Line:
    run = await lead.run(run_id)
    return {"state": "RUN_STATE_COMPLETED", "completed": 3, "head_commit": run.head_commit}


async def diff_of(lead: Lead, run_id: str) -> Line:
    """The diff of task a's attempt, as git tells it."""
    (attempt,) = (each for each in await lead.attempts(run_id) if each.task_id == "a")
    base, commit = attempt.result.base_commit, attempt.result.commit
    asked = ("diff", "--binary", "--full-index", base, commit)
    git = await asyncio.create_subprocess_exec(
        "git", *asked, cwd=lead.project, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await git.communicate()
    assert len(told) > 2 * 256 * 1024, "it comes in several chunks"
    digest = hashlib.sha256(told).hexdigest()
    return {"attempt_id": attempt.attempt_id, "name": "diff", "size": len(told), "sha256": digest}


def comparable(client: Program) -> list[Any]:
    """What a client said, less what differs between two runs: ids, places, times, commits."""
    return [_without_own(line, client.said("created")[0]["run_id"]) for line in client.lines]


_OWN = {"run_id", "request_id", "attempt_id", "event_time", "revision", "cursor", "duration"} | {
    "commit", "commit_hash", "base_commit", "head_commit", "sha256", "size", "branch"
}  # fmt: skip


def _without_own(value: Any, run_id: str) -> Any:
    match value:
        case dict():
            return {key: "…" if key in _OWN else _without_own(inner, run_id) for key, inner in value.items()}
        case list():
            return [_without_own(inner, run_id) for inner in value]
        case str():
            # A line for people may name a commit, or how long something took.
            return re.sub(r"\b[0-9a-f]{12}\b|\d+\.\d s", "…", value.replace(run_id, "RUN"))
    return value
