"""Server-sent events and the WebSocket, over real connections."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from codeframe.v1 import events_pb2, lead_pb2, state_pb2
from services.runtime.errors import InvalidArgument
from tests.canned_lead import CannedLead, serve
from tests.unit.gateway.conftest import Gateway, serving


def changed(task_id: str, project: str = "shop", run_id: str = "r") -> events_pb2.Event:
    return events_pb2.Event(
        run_id=run_id,
        project=project,
        event_time=Timestamp(seconds=1),
        task_status_changed=events_pb2.TaskStatusChanged(
            task_id=task_id, status=state_pb2.TASK_STATE_COMPLETED
        ),
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """One server-sent event."""

    event: str
    data: Any
    id: str | None


class Reader:
    """Reads server-sent events off a response."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> Sent:
        """The next event; comments are skipped. Raises StopAsyncIteration at the end."""
        fields: dict[str, str] = {}
        while True:
            line = await anext(self._lines)
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif not line and fields:
                return Sent(fields["event"], json.loads(fields["data"]), fields.get("id"))

    async def take(self, count: int) -> list[Sent]:
        return [await self.next() for _ in range(count)]


@asynccontextmanager
async def events(gateway: Gateway, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    url = f"http://{gateway.address}/v1/events{query}"
    timeout = httpx2.Timeout(20.0)
    async with (
        httpx2.AsyncClient(timeout=timeout, trust_env=False) as http,
        http.stream(
            "GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()}
        ) as answer,
    ):
        yield Reader(answer)


async def test_a_stream_starts_with_a_snapshot(lead: CannedLead, gateway: Gateway) -> None:
    lead.runs = [lead_pb2.Run(run_id="r", revision=1)]
    lead.tasks = [lead_pb2.Task(run_id="r", task_id="t")]
    lead.workers = [lead_pb2.Worker(name="w")]
    await lead.tell(changed("a"))
    async with events(gateway) as reader:
        assert reader.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        sent = await reader.take(5)
        assert [each.event for each in sent] == [
            "snapshot_started",
            "snapshot_run",
            "snapshot_task",
            "snapshot_worker",
            "bookmark",
        ]
        assert sent[1].data["run_id"] == "r"
        assert sent[4].id == "log.1"
        assert sent[4].data["snapshot_end"] is True
        await lead.tell(changed("b"))
        event = await reader.next()
        assert event.event == "task_status_changed"
        assert event.id == "log.2"
        assert event.data["revision"] == "2"
        assert event.data["event"]["run_id"] == "r"
        assert event.data["event"]["task_status_changed"]["status"] == "TASK_STATE_COMPLETED"


async def test_last_event_id_resumes_and_goes_before_the_query(lead: CannedLead, gateway: Gateway) -> None:
    await lead.tell(*(changed(str(n)) for n in range(10)))
    async with events(gateway, "?cursor=log.2") as reader:
        assert [each.id for each in await reader.take(8)] == [f"log.{n}" for n in range(3, 11)]
    async with events(gateway, "?cursor=log.2", Last_Event_ID="log.8") as reader:
        assert [each.id for each in await reader.take(2)] == ["log.9", "log.10"]
    async with events(gateway, "?cursor=") as reader:
        assert [each.id for each in await reader.take(10)] == [f"log.{n}" for n in range(1, 11)]


async def test_all_of_many_events_are_sent_once_and_in_order(lead: CannedLead, gateway: Gateway) -> None:
    """Hundreds in a batch, and across a watch that breaks: as server-sent events, and as frames."""
    url, places = f"ws://{gateway.address}/ws?cursor=", [f"log.{n}" for n in range(1, 1001)]
    await lead.tell(*(changed(str(n)) for n in range(500)))
    async with events(gateway, "?cursor=") as reader, connect(url, proxy=None) as socket:
        assert [each.id for each in await reader.take(500)] == places[:500]
        assert [json.loads(await socket.recv())["cursor"] for _ in range(500)] == places[:500]
        await lead.break_watches()
        await lead.tell(*(changed(str(n)) for n in range(500)))
        assert [each.id for each in await reader.take(500)] == places[500:]
        assert [json.loads(await socket.recv())["cursor"] for _ in range(500)] == places[500:]


async def test_the_query_goes_to_the_lead(lead: CannedLead, gateway: Gateway) -> None:
    lead.runs = [lead_pb2.Run(run_id="a"), lead_pb2.Run(run_id="b")]
    query = "?project=shop&run_id=a&run_id=b&run_id=a&kind=task_status_changed&cursor="
    async with events(gateway, query) as reader:
        await lead.tell(changed("t", run_id="c"), changed("t", run_id="b"))
        assert (await reader.next()).id == "log.2"
    request = lead.asked("WatchEvents")[0]
    assert request.project == "shop"
    assert request.run_ids == ["a", "b"]
    assert request.kinds == ["task_status_changed"]


async def test_a_watch_survives_its_lead(lead: CannedLead, unused_tcp_port: int) -> None:
    async with serving(f"127.0.0.1:{unused_tcp_port}") as gateway, events(gateway, "?cursor=") as reader:
        assert reader.response.status_code == 200
        for round_ in range(3):
            async with serve(lead, unused_tcp_port):
                await lead.tell(changed("a"))
                assert (await reader.next()).id == f"log.{round_ + 1}"


async def test_an_idle_stream_opens_though_nothing_is_told(gateway: Gateway) -> None:
    async with events(gateway, "?cursor=") as reader:
        assert reader.response.status_code == 200


async def test_a_stream_of_named_runs_ends_and_then_answers_204(lead: CannedLead, gateway: Gateway) -> None:
    lead.runs = [lead_pb2.Run(run_id="r", end_time=Timestamp(seconds=1))]
    await lead.tell(changed("a"))
    async with events(gateway, "?run_id=r&cursor=") as reader:
        assert (await reader.next()).id == "log.1"
        with pytest.raises(StopAsyncIteration):
            await reader.next()
    async with events(gateway, "?run_id=r", Last_Event_ID="log.1") as reader:
        assert reader.response.status_code == 204


async def test_a_refusal_later_on_is_told_in_the_stream(lead: CannedLead, gateway: Gateway) -> None:
    await lead.tell(changed("a"))
    async with events(gateway, "?cursor=") as reader:
        await reader.next()
        lead.refuse("WatchEvents", InvalidArgument("INVALID_CURSOR", "not mine"))
        await lead.break_watches()
        refused = await reader.next()
        assert refused.event == "refused"
        assert refused.data["error"]["reason"] == "ERROR_REASON_INVALID_CURSOR"
        with pytest.raises(StopAsyncIteration):
            await reader.next()


async def test_a_reader_that_leaves_ends_its_watch(lead: CannedLead, gateway: Gateway) -> None:
    await lead.tell(changed("a"))
    async with events(gateway, "?cursor=") as reader:
        await reader.next()
        await lead.watched(1)
    await lead.watched(0)


async def test_a_reader_that_never_reads_costs_the_others_nothing(lead: CannedLead) -> None:
    """It holds back its own watch: the lead is not drained into memory for it, and a stop is not held up."""
    async with serve(lead) as address, serving(address, drain_seconds=1.0) as gateway:
        host, _, port = gateway.address.partition(":")
        _, stuck = await asyncio.open_connection(host, int(port), limit=1024)
        stuck.write(f"GET /v1/events?cursor= HTTP/1.1\r\nHost: {gateway.address}\r\n\r\n".encode())
        url = f"ws://{gateway.address}/ws?cursor="
        socket = await connect(url, max_queue=1, compression=None, close_timeout=0.1)
        await lead.watched(2)
        update = events_pb2.ActivityUpdate(message="x" * 20_000)
        async with events(gateway, "?cursor=") as reader:
            for n in range(500):
                await lead.tell(events_pb2.Event(activity_update=update))
                assert (await reader.next()).id == f"log.{n + 1}"
            assert lead.writing >= 2
        gateway.stop.ask()
        async with asyncio.timeout(5.0):
            await gateway.stopped.wait()
        stuck.close()
        await socket.close()


async def test_more_streams_than_the_bound_are_refused(lead: CannedLead) -> None:
    async with serve(lead) as address, serving(address, max_streams=1) as gateway:
        async with events(gateway, "?cursor=") as reader:
            assert reader.response.status_code == 200
            async with events(gateway, "?cursor=") as second:
                assert second.response.status_code == 503
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{gateway.address}/ws")
            assert refused.value.response.status_code == 503
        await lead.watched(0)
        async with events(gateway, "?cursor=") as third:
            assert third.response.status_code == 200


async def test_stopping_ends_streams_in_order(lead: CannedLead, gateway: Gateway) -> None:
    socket = await connect(f"ws://{gateway.address}/ws")
    async with events(gateway, "?cursor=") as reader:
        gateway.stop.ask()
        with pytest.raises(StopAsyncIteration):
            await reader.next()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1001
    await gateway.stopped.wait()


async def test_frames_from_now_on(lead: CannedLead, gateway: Gateway) -> None:
    lead.runs = [lead_pb2.Run(run_id="r")]
    await lead.tell(changed("before"))
    async with connect(f"ws://{gateway.address}/ws?project_id=shop") as socket:
        await lead.watched(1)
        await lead.tell(changed("other", project="else"), changed("a"))
        assert json.loads(await socket.recv()) == {
            "type": "task_status_changed",
            "task_id": "a",
            "status": "completed",
            "project_id": "shop",
            "timestamp": "1970-01-01T00:00:01Z",
            "cursor": "log.3",
        }
    await lead.watched(0)


async def test_frames_after_a_cursor(lead: CannedLead, gateway: Gateway) -> None:
    await lead.tell(changed("a"), changed("b"))
    async with connect(f"ws://{gateway.address}/ws?cursor=log.1") as socket:
        assert json.loads(await socket.recv())["task_id"] == "b"
        await lead.watched(1)
        await lead.break_watches()
        await lead.tell(changed("c"))
        assert json.loads(await socket.recv())["cursor"] == "log.3"


async def test_a_lost_place_is_said(lead: CannedLead, gateway: Gateway) -> None:
    await lead.tell(changed("a"))
    async with connect(f"ws://{gateway.address}/ws?cursor=other.7") as socket:
        assert json.loads(await socket.recv()) == {"type": "events_lost", "cursor": "log.1"}
        await lead.tell(changed("b"))
        assert json.loads(await socket.recv())["task_id"] == "b"


async def test_what_the_client_says_is_not_for_us(lead: CannedLead, gateway: Gateway) -> None:
    async with connect(f"ws://{gateway.address}/ws") as socket:
        await socket.send("hello")
        await socket.send(b"\0")
        await lead.watched(1)
        await lead.tell(changed("a"))
        assert json.loads(await socket.recv())["task_id"] == "a"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://localhost:3000", True),
        ("http://127.0.0.1:8080", True),
        ("https://[::1]", True),
        ("http://evil.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
    ],
)
async def test_only_pages_of_this_machine_get_frames(
    gateway: Gateway, origin: str | None, allowed: bool
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    if allowed:
        async with connect(f"ws://{gateway.address}/ws", additional_headers=headers):
            return
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{gateway.address}/ws", additional_headers=headers)
    assert refused.value.response.status_code == 403


async def test_a_bad_query_of_a_socket_is_refused(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{gateway.address}/ws?project=shop")
    assert refused.value.response.status_code == 400
    assert b"unknown parameter" in (refused.value.response.body or b"")


async def test_a_refused_watch_closes_the_socket_with_the_reason(lead: CannedLead, gateway: Gateway) -> None:
    lead.refuse("WatchEvents", InvalidArgument("INVALID_CURSOR", "not a cursor of mine"))
    async with connect(f"ws://{gateway.address}/ws?cursor=x") as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1008
        assert socket.close_reason == "ERROR_REASON_INVALID_CURSOR: not a cursor of mine"
