"""Runs as they are, for what is told of them: lead, worker and git are real; only the model is a script."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from codeframe.v1 import lead_pb2, state_pb2
from codeframe.v1.status_pb2 import JournaledEvent
from services.lead.fleet import Rounds
from services.lead.journal import FLEET
from services.workers.model.conversation import Conversation
from services.workers.model.gate import Pause
from tests.git_project import make_project
from tests.integration.lead_stage import Lead, serve_lead, task
from tests.ports import free_port
from tests.scripted_worker import Script, serve_worker
from tests.worker_stage import Calls, Step, overwrite, serving, write

# The project's one test: the answer is 42, or not there yet.
CHECK = """
if [ ! -e answer.txt ] || grep -q 42 answer.txt; then
  test='<testcase name="answer"/>'
else
  test='<testcase name="answer"><failure message="the answer is wrong"/></testcase>'
fi
echo "<testsuite>$test</testsuite>" > report.xml
"""
PROJECT = {
    "check.sh": CHECK,
    "codeframe.toml": '[verification]\ncommand = "sh check.sh"\nreport = "report.xml"\n',
}


async def never(_: Conversation) -> Calls:
    """A turn that never ends."""
    await asyncio.Event().wait()
    return []


SCRIPTS: dict[str, list[Step]] = {
    "api": [[write("answer.txt", "42\n")]],
    "docs": [[write("README.md", "The answer is 42.\n")]],
    "guess": [[write("answer.txt", "41\n")], (), [overwrite("answer.txt", "42\n")]],
    "wrong": [[write("answer.txt", "41\n")]],
    "endless": [never],
    "goal": [
        [
            (
                "propose_plan",
                {
                    "title": "There is an answer",
                    "tasks": [
                        {
                            "id": "api",
                            "title": "An endpoint that answers",
                            "description": "It says 42.",
                            "role": "backend",
                            "depends_on": [],
                        }
                    ],
                },
            )
        ]
    ],
}


class Clock:
    """The leads' clock: this machine's, and ahead of it where it is set so."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(slots=True)
class Walks:
    """What was told of each run, by what it shows, and of the fleet."""

    runs: dict[str, list[JournaledEvent]] = field(default_factory=dict)
    fleet: list[JournaledEvent] = field(default_factory=list)


async def walk(folder: Path) -> Walks:
    """Have runs end in every way, and a worker go and come back."""
    walks, clock = Walks(), Clock()
    make_project(folder / "shop", PROJECT)

    @asynccontextmanager
    async def leading(address: str) -> AsyncIterator[Lead]:
        rounds = Rounds(every=0.05)
        async with serve_lead(folder / "lead", folder / "shop", address, clock=clock, rounds=rounds) as lead:
            yield lead

    port = free_port()
    async with serving(folder / "worker", slots=8, port=port) as worker:
        worker.model.scripts |= SCRIPTS
        async with leading(worker.address) as lead:
            runs = await _create(lead)
            for name in ("cancelled", "timed-out"):
                await until(lead, runs[name], _is_working)
            await lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=runs["cancelled"]))
            for name in runs.keys() - {"timed-out"}:
                await lead.ended(runs[name])
        # The next lead finds the run where this one left it, and its time over.
        clock.ahead = timedelta(hours=2)
        async with leading(worker.address) as lead:
            await lead.ended(runs["timed-out"])
            for name, run_id in runs.items():
                walks.runs[name] = await lead.journaled(run_id)
    async with leading(worker.address) as lead:
        await until(lead, FLEET, lambda told: _agent_is(told, state_pb2.AGENT_STATE_UNREACHABLE))
        clock.ahead += timedelta(minutes=2)
        await until(lead, FLEET, lambda told: told.event.HasField("agent_retired"))
        pauses = [
            Pause("4c3a0d5be1f2", "claude-sonnet", clock() + timedelta(minutes=10), "HTTP 429: slow down")
        ]
        again, key = folder / "again", pauses[0].key_fingerprint
        async with serve_worker(Script(), again, name="w1", port=port, key=key, pauses=lambda: pauses):
            await until(lead, FLEET, lambda told: told.event.HasField("agent_resumed"))
            await until(lead, FLEET, lambda told: told.event.HasField("provider_throttled"))
        walks.fleet = await lead.journaled(FLEET)
    return walks


async def _create(lead: Lead) -> dict[str, str]:
    """The runs' ids by what they show."""
    limits, planned = lead_pb2.RunLimits, {}
    for name, tasks, limited in (
        ("passes", [task("api"), task("docs", "api")], limits()),
        ("corrects-itself", [task("guess")], limits()),
        ("fails", [task("wrong"), task("docs", "wrong")], limits(corrections=0, retries=0)),
        ("cancelled", [task("endless")], limits()),
        ("timed-out", [task("endless")], limits(run_timeout=Duration(seconds=3600))),
    ):
        planned[name] = (await lead.create(*tasks, limits=limited, request_id=name)).run_id
    planned["of-a-goal"] = (await lead.create_goal("There is an answer.", request_id="of-a-goal")).run_id
    return planned


async def until(lead: Lead, run_id: str, true: Callable[[JournaledEvent], bool]) -> None:
    """Return once such an event of a run, or of the fleet, is journaled."""

    async def look() -> bool:
        return any(map(true, await lead.journaled(run_id)))

    await lead.once(look)


def _is_working(told: JournaledEvent) -> bool:
    return told.event.task_status_changed.phase == state_pb2.TASK_PHASE_WORKING


def _agent_is(told: JournaledEvent, state: Any) -> bool:
    return bool(told.event.agent_status_changed.status == state)
