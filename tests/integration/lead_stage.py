"""A lead in the test's own process, with real workers, a real repository and a journal on disk."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from codeframe.v1 import events_pb2, lead_pb2, lead_pb2_grpc, plan_pb2, state_pb2, status_pb2
from services.lead.artifacts import ArtifactStore
from services.lead.fleet import Fleet
from services.lead.integrator import Integrators
from services.lead.journal import Filter, Journal
from services.lead.journal.sqlite import sqlite_journal
from services.lead.openings import Openings
from services.lead.reads import Reads
from services.lead.requests import Requests
from services.lead.runs import Runs
from services.lead.servicer import LeadServicer
from services.lead.silence import Patience
from services.lead.stage import Stage
from services.lead.watch import add_status_service
from services.runtime.channel import open_channel
from services.runtime.git import Git
from services.runtime.server import Server
from services.runtime.settings import ServerSettings
from tests.git_project import make_project
from tests.scripted_worker import Script, ServedWorker, serve_worker

IMPATIENT = Patience(silence=1.0, deadline=5.0, shortest_pause=0.02, longest_pause=0.2)

FINAL = frozenset({state_pb2.RUN_STATE_COMPLETED, state_pb2.RUN_STATE_FAILED, state_pb2.RUN_STATE_CANCELLED})

GREEN_UNLESS_TOGETHER = """
echo PASS basic
if [ -e red ]; then echo FAIL red; fi
if [ -e together-1 ] && [ -e together-2 ]; then echo FAIL together; fi
"""


def task(id: str, *depends_on: str, role: str = "backend", **more: Any) -> plan_pb2.PlannedTask:
    return plan_pb2.PlannedTask(id=id, title=f"Do {id}", role=role, depends_on=depends_on, **more)


@dataclass(slots=True)
class Lead:
    """A lead that is served in this process, and a client of it."""

    journal: Journal
    runs: Runs
    stage: Stage
    fleet: Fleet
    stub: "lead_pb2_grpc.LeadServiceAsyncStub"
    project: Path
    address: str

    async def create(self, *tasks: plan_pb2.PlannedTask, request_id: str = "q", **more: Any) -> lead_pb2.Run:
        plan = plan_pb2.Plan(title="a plan", tasks=tasks)
        request = lead_pb2.CreateRunRequest(
            request_id=request_id, repository=str(self.project), plan=plan, **more
        )
        return (await self.stub.CreateRun(request)).run

    async def create_goal(self, goal: str, *, request_id: str = "q", **more: Any) -> lead_pb2.Run:
        request = lead_pb2.CreateRunRequest(
            request_id=request_id, repository=str(self.project), goal=goal, **more
        )
        return (await self.stub.CreateRun(request)).run

    async def run(self, run_id: str) -> lead_pb2.Run:
        return (await self.stub.GetRun(lead_pb2.GetRunRequest(run_id=run_id))).run

    async def tasks(self, run_id: str) -> dict[str, lead_pb2.Task]:
        response = await self.stub.ListTasks(lead_pb2.ListTasksRequest(run_id=run_id, page_size=500))
        return {each.task_id: each for each in response.tasks}

    async def attempts(self, run_id: str) -> list[lead_pb2.Attempt]:
        request = lead_pb2.ListAttemptsRequest(run_id=run_id, page_size=500)
        return list((await self.stub.ListAttempts(request)).attempts)

    async def ended(self, run_id: str) -> lead_pb2.Run:
        """The run, once it has ended."""
        return await self.until(run_id, lambda run: run.state in FINAL)

    async def once(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """What a look finds, once it finds something: it looks again after each append."""
        while True:
            head = (await self.journal.bounds()).head  # before it looks: what is appended meanwhile wakes it
            if found := await look():
                return found
            await self.journal.changed(head)

    async def until(self, run_id: str, true: Callable[[lead_pb2.Run], bool]) -> lead_pb2.Run:
        """The run, once that is true of it."""

        async def look() -> lead_pb2.Run | None:
            return seen if true(seen := await self.run(run_id)) else None

        found: lead_pb2.Run = await self.once(look)
        return found

    async def until_task(
        self, run_id: str, task_id: str, true: Callable[[lead_pb2.Task], bool]
    ) -> lead_pb2.Task:
        """A task, once that is true of it."""

        async def look() -> lead_pb2.Task | None:
            return seen if true(seen := (await self.tasks(run_id))[task_id]) else None

        found: lead_pb2.Task = await self.once(look)
        return found

    async def events(self, run_id: str) -> list[events_pb2.Event]:
        """Every public event of a run, or of the fleet, in order."""
        return [each.event for each in await self.journaled(run_id)]

    async def journaled(self, run_id: str) -> list[status_pb2.JournaledEvent]:
        """The same, each at its place, as the journal holds it."""
        found: list[status_pb2.JournaledEvent] = []
        bounds = await self.journal.bounds()
        after = 0
        while after < bounds.head:
            page = await self.journal.entries(after, Filter(runs=frozenset({run_id})))
            for entry in page.entries:
                event = events_pb2.Event.FromString(entry.record.body)
                cursor = f"{bounds.log_id}.{entry.revision}"
                found.append(status_pb2.JournaledEvent(revision=entry.revision, cursor=cursor, event=event))
            after = page.through
        return found

    async def told(self, run_id: str, kind: str) -> list[Any]:
        """The payloads of one kind, in order."""
        return [getattr(event, kind) for event in await self.events(run_id) if event.HasField(kind)]  # type: ignore[arg-type]


@asynccontextmanager
async def serve_lead(
    folder: Path,
    project: Path,
    *workers: str,
    patience: Patience = IMPATIENT,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    **more: Any,
) -> AsyncIterator[Lead]:
    """Serve a lead on loopback. Leaving kills it, cancelling nothing at its workers."""
    settings = ServerSettings("127.0.0.1", 0, folder, None, False, "human", "error", 0.0)
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        journal = await stack.enter_async_context(sqlite_journal(folder, group, new_log_id=lambda: "log"))
        artifacts = ArtifactStore(folder / "artifacts")
        integrators = Integrators(Git(os.environ), folder / "repositories")
        fleet = Fleet(workers, journal, clock=clock, **more)
        stack.push_async_callback(fleet.close)
        stage = Stage(journal, fleet, artifacts, Requests(artifacts), integrators.of, patience, clock)
        runs = Runs(stage, Openings(folder / "openings", journal, integrators.of), owner="lead")
        server = Server(settings, ("codeframe.v1.LeadService", "codeframe.v1.StatusService"))
        servicer = LeadServicer(runs, Reads(journal, artifacts), fleet, integrators.of)
        lead_pb2_grpc.add_LeadServiceServicer_to_server(servicer, server.grpc)
        add_status_service(server.grpc, journal, fleet.workers)
        keeping = [group.create_task(fleet.keep()), group.create_task(runs.keep())]
        await server.start()
        channel = open_channel(server.address)
        stub = lead_pb2_grpc.LeadServiceStub(channel)
        try:
            yield Lead(journal, runs, stage, fleet, stub, project, server.address)
        finally:
            for each in keeping:
                each.cancel()
            await channel.close()
            await server.grpc.stop(None)


@dataclass(slots=True)
class House:
    """A folder with a project, from which leads and workers are served."""

    folder: Path
    project: Path
    script: Script = field(default_factory=Script)

    def lead(self, *workers: ServedWorker | str, **more: Any) -> Any:
        addresses = [each if isinstance(each, str) else each.address for each in workers]
        return serve_lead(self.folder / "lead", self.project, *addresses, **more)

    def worker(self, name: str = "worker", **more: Any) -> Any:
        return serve_worker(self.script, self.folder / "workers" / name, name=name, **more)


def make_house(folder: Path, **files: str) -> House:
    """A house whose project is verified by a shell script."""
    project = folder / "project"
    make_project(
        project,
        {
            "verify.sh": GREEN_UNLESS_TOGETHER,
            "codeframe.toml": '[verification]\ncommand = "sh verify.sh"\n',
            **files,
        },
    )
    return House(folder, project)


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house of a test's own."""
    return make_house(tmp_path)
