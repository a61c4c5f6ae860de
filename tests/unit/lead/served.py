"""A journal behind a real server, as the lead serves it, and clients of it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codeframe.internal.v1 import rows_pb2
from codeframe.v1 import events_pb2, lead_pb2, state_pb2, status_pb2, status_pb2_grpc
from services.lead.journal import Journal, Record, Row, RowKind
from services.lead.journal.sqlite import sqlite_journal
from services.lead.watch import SERVICE, add_status_service
from services.runtime.channel import open_channel
from services.runtime.server import Server
from services.runtime.settings import ServerSettings
from tests.contract.stores import run_of


@dataclass(slots=True)
class Served:
    """What a test holds of a lead: its journal, its address, its workers."""

    journal: Journal
    address: str = ""
    workers: list[lead_pb2.Worker] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)

    async def create(self, run_id: str, project: str = "shop", tasks: int = 1) -> None:
        """A run whose tasks are PENDING."""
        rows = [run_row(run_id, project), *(task_row(run_id, n) for n in range(tasks))]
        records = [event(run_id, project, run_status_changed=events_pb2.RunStatusChanged())]
        self.heads[run_id] = (await self.journal.create(run_of(run_id, project), records, rows)).last

    async def tell(self, run_id: str, records: Sequence[Record], rows: Sequence[Row] = ()) -> None:
        """An append by the run's owner."""
        head = self.heads.get(run_id, 0)
        appended = await self.journal.append(run_id, records, rows, expected_head=head, term=None)
        self.heads[run_id] = appended.last

    async def move(self, run_id: str, task: int, progress: int, *, final: bool = False) -> None:
        """A task's progress changed, as an event and in its row."""
        status = events_pb2.TaskStatusChanged(task_id=f"t{task}", progress=progress)
        row = task_row(run_id, task, progress, final=final)
        await self.tell(run_id, [event(run_id, task_id=f"t{task}", task_status_changed=status)], [row])

    async def end(self, run_id: str) -> None:
        """The run is over."""
        status = events_pb2.RunStatusChanged(status=state_pb2.RUN_STATE_COMPLETED)
        await self.tell(run_id, [event(run_id, run_status_changed=status)], [run_row(run_id, final=True)])

    async def fleet(self, agent_id: str) -> None:
        """A fleet event."""
        await self.tell(
            "fleet", [event("fleet", "", agent_created=events_pb2.AgentCreated(agent_id=agent_id))]
        )


def event(run_id: str, project: str = "shop", *, task_id: str = "", **payload: Any) -> Record:
    """A public record of an event."""
    message = events_pb2.Event(run_id=run_id, project=project, **payload)
    return Record(message.WhichOneof("payload") or "", message.SerializeToString(), task_id=task_id)


def private() -> Record:
    """A record that no client sees."""
    return Record("AttemptBound", b"\xff private", public=False)


def run_row(run_id: str, project: str = "shop", *, final: bool = False) -> Row:
    state = state_pb2.RUN_STATE_COMPLETED if final else state_pb2.RUN_STATE_RUNNING
    public = lead_pb2.Run(run_id=run_id, project=project, state=state)
    body = rows_pb2.RunRow(public=public, state=b"{}").SerializeToString()
    return Row(RowKind.RUN, run_id, 0, body, final)


def task_row(run_id: str, task: int, progress: int = 0, *, final: bool = False, title: str = "") -> Row:
    public = lead_pb2.Task(run_id=run_id, task_id=f"t{task}", title=title, progress=progress)
    body = rows_pb2.TaskRow(public=public, state=b"{}").SerializeToString()
    return Row(RowKind.TASK, f"t{task}", task, body, final)


@asynccontextmanager
async def served(folder: Path, *, log_id: str = "log", bookmark_every: float = 10.0) -> AsyncIterator[Served]:
    """A journal in a folder, and the server of its StatusService."""
    settings = ServerSettings("127.0.0.1", 0, folder, None, False, "human", "error", 1.0)
    async with (
        asyncio.TaskGroup() as tasks,
        sqlite_journal(folder, tasks, new_log_id=lambda: log_id) as journal,
    ):
        lead = Served(journal)
        server = Server(settings, (SERVICE,))
        add_status_service(server.grpc, journal, lambda: lead.workers, bookmark_every=bookmark_every)
        await server.start()
        lead.address = server.address
        try:
            yield lead
        finally:
            await server.grpc.stop(grace=0)


@asynccontextmanager
async def watching(
    address: str, **request: Any
) -> AsyncIterator[AsyncIterator[status_pb2.WatchEventsResponse]]:
    """The messages of a watch of its own channel."""
    channel = open_channel(address)
    call = status_pb2_grpc.StatusServiceStub(channel).WatchEvents(status_pb2.WatchEventsRequest(**request))
    try:
        yield aiter(call)
    finally:
        call.cancel()
        await channel.close()


async def all_of(address: str, **request: Any) -> list[status_pb2.WatchEventsResponse]:
    """The messages of a watch that the lead ends."""
    async with watching(address, **request) as messages:
        return [message async for message in messages]


def revisions(messages: Iterable[status_pb2.WatchEventsResponse]) -> list[int]:
    """The revisions of all events."""
    return [each.revision for message in messages for each in message.events]
