"""`GET /v1/events`: the broadcast as server-sent events.

The query narrows and starts the stream: `project`, `run_id`, `task_id` and `kind` (each of the
last three any number of times), and `cursor` (the events after it; empty: from the oldest) or
`start=snapshot`, which is the default. `Last-Event-ID`, which a browser sends by itself when it
connects again, goes before both.

    event: snapshot_started   data: {}                 forget what you hold, rows follow
    event: snapshot_run       data: a Run              also snapshot_task, snapshot_worker
    event: bookmark           data: a Bookmark         every matching event up to its id was sent;
                                                       `snapshot_end` where it closes the rows
    event: <payload's name>   data: a JournaledEvent   a reader with a row drops events whose
                                                       `revision` is not above the row's
    event: refused            data: {"error": ...}     the last one: asking again as it is is no use

`id:` of events and bookmarks is the cursor; data is ProtoJSON with the protos' field names. A
stream of named runs ends once they are final; asked for again after that, it answers 204, at
which a browser stops. Comments keep an idle connection open.
"""

import asyncio
import json
from contextlib import suppress
from http import HTTPStatus

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from codeframe.client import Client, CodeframeError, SnapshotStarted, Watch, WatchBroken, WatchItem
from codeframe.v1 import lead_pb2, status_pb2
from gateway import query
from gateway.refusals import away, body, invalid, response
from gateway.rows import proto_json
from gateway.streams import LAST_WORD_SECONDS, Streams, first_to_end

KEEP_ALIVE_SECONDS = 15.0
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
# A refusal that comes in this time gets an HTTP status of its own.
_REFUSAL_SECONDS = 0.5
_ROWS = {lead_pb2.Run: "snapshot_run", lead_pb2.Task: "snapshot_task", lead_pb2.Worker: "snapshot_worker"}


class Events:
    """The endpoint: one watch of the lead for each connection."""

    def __init__(self, client: Client, streams: Streams) -> None:
        self._client = client
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            async with self._streams.one(), self._watch(request) as watch:
                stream = _Stream(watch, send)
                await first_to_end(stream.push(), stream.keep_open(), _gone(receive), self._streams.end())
                # One that does not read does not get this either.
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORD_SECONDS):
                        await stream.end()
        except _Refused as refused:
            await response(away(refused.error, self._client.address))(scope, receive, send)
        except CodeframeError as error:
            await response(error)(scope, receive, send)

    def _watch(self, request: Request) -> Watch:
        given = request.query_params
        query.check(given, ("project", "cursor", "start"), ("run_id", "task_id", "kind"))
        if given.get("start", "snapshot") != "snapshot":
            raise invalid("start", "must be snapshot")
        if "start" in given and "cursor" in given:
            raise invalid("start", "give a cursor or start=snapshot, not both")
        return self._client.watch(
            project=given.get("project", ""),
            run_ids=query.several(given, "run_id"),
            task_ids=query.several(given, "task_id"),
            kinds=query.several(given, "kind"),
            cursor=request.headers.get("last-event-id") or given.get("cursor"),
        )


class _Refused(Exception):
    """The lead refused the watch before anything was sent."""

    def __init__(self, error: CodeframeError) -> None:
        super().__init__(str(error))
        self.error = error


class _Stream:
    """One response. What is not read holds back the watch, and nobody else."""

    def __init__(self, watch: Watch, send: Send) -> None:
        self._watch = watch
        self._send = send
        self._opened = False
        self._turn = asyncio.Lock()

    async def push(self) -> None:
        """Send the watch's items until it ends. Raises _Refused where that is the response."""
        try:
            async for batch in self._watch.batches():
                if text := "".join(map(server_sent, batch)):
                    await self._write(text)
        except CodeframeError as error:
            if not self._opened:
                raise _Refused(error) from None
            await self._write(_lines("refused", json.dumps(body(error))))

    async def keep_open(self) -> None:
        """Open the response, though there is nothing to tell yet, and keep it open."""
        await asyncio.sleep(_REFUSAL_SECONDS)
        while True:
            await self._write(":\n\n")
            await asyncio.sleep(KEEP_ALIVE_SECONDS)

    async def end(self) -> None:
        """End the response; 204 where nothing was sent."""
        if not self._opened:
            await self._send({"type": "http.response.start", "status": HTTPStatus.NO_CONTENT, "headers": []})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, text: str) -> None:
        async with self._turn:
            if not self._opened:
                self._opened = True
                await self._send(
                    {"type": "http.response.start", "status": HTTPStatus.OK, "headers": _HEADERS}
                )
            await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})


def server_sent(item: WatchItem) -> str:
    """An item of a watch as a server-sent event."""
    match item:
        case status_pb2.JournaledEvent():
            return _lines(item.event.WhichOneof("payload") or "", proto_json(item), item.cursor)
        case status_pb2.Bookmark():
            return _lines("bookmark", proto_json(item), item.cursor)
        case SnapshotStarted():
            return _lines("snapshot_started", "{}")
        case WatchBroken():
            return ": the lead does not answer; the gateway asks it again\n\n"
        case Message():
            return _lines(_ROWS[type(item)], proto_json(item))


def _lines(event: str, data: str, cursor: str = "") -> str:
    place = f"id: {cursor}\n" if cursor else ""
    return f"{place}event: {event}\ndata: {data}\n\n"


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
