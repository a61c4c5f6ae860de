"""`/ws`: the broadcast as the old flat frames.

The query: `project_id` (only its events), `cursor` (the events after it; empty: from the oldest;
absent: from now). Where the lead no longer serves a cursor, the frame `{"type": "events_lost",
"cursor": ...}` says so, and the events from now on follow.
"""

import asyncio
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from codeframe.client import Client, CodeframeError, Watch
from codeframe.v1 import status_pb2
from gateway import query
from gateway.frames import FRAMES, frame
from gateway.refusals import response
from gateway.streams import LAST_WORD_SECONDS, Streams, first_to_end

_GOING_AWAY = 1001
_POLICY_VIOLATION = 1008
_REASON_BYTES = 120


class Frames:
    """The endpoint: one watch of the lead for each connection."""

    def __init__(self, client: Client, streams: Streams) -> None:
        self._client = client
        self._streams = streams

    async def serve(self, socket: WebSocket) -> None:
        """Serve a connection to its end; it is refused by HTTP status where it cannot begin."""
        try:
            query.check(socket.query_params, ("project_id", "cursor"))
            async with self._streams.one():
                await socket.accept()
                await self._serve(socket)
        except CodeframeError as error:
            await socket.send_denial_response(response(error))

    async def _serve(self, socket: WebSocket) -> None:
        cursor = socket.query_params.get("cursor")
        project = socket.query_params.get("project_id", "")
        code, reason = _GOING_AWAY, "the gateway is stopping"
        try:
            async with self._client.watch(project=project, kinds=list(FRAMES), cursor=cursor) as watch:
                push = _push(watch, socket, has_place=cursor is not None)
                await first_to_end(push, _gone(socket), self._streams.end())
        except CodeframeError as error:
            code, reason = _POLICY_VIOLATION, f"{error.reason}: {error}"
        except WebSocketDisconnect:
            return
        # One that does not read does not get this either.
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await socket.close(code, reason.encode()[:_REASON_BYTES].decode(errors="ignore"))


async def _push(watch: Watch, socket: WebSocket, *, has_place: bool) -> None:
    """Send a frame for each event; rows of a snapshot have none."""
    async for item in watch:
        match item:
            case status_pb2.JournaledEvent():
                if (flat := frame(item)) is not None:
                    await socket.send_json(flat)
            case status_pb2.Bookmark(snapshot_end=True):
                if has_place:
                    await socket.send_json({"type": "events_lost", "cursor": item.cursor})
                has_place = True


async def _gone(socket: WebSocket) -> None:
    """Read until the other side has closed; what it says is not for us."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
    raise WebSocketDisconnect
