"""Responses that come piece by piece, and may be cut."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class Dropped(Exception):
    """The connection is to end here, in the midst of the response."""


def encode_event(event: Mapping[str, object]) -> bytes:
    """An event as server-sent events write it."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


class BodyResponse(Response):
    """A 200 whose body is sent as it comes. Where the client goes away, `body` is cancelled."""

    def __init__(
        self, body: AsyncGenerator[bytes], media_type: str, request_id: str, headers: Mapping[str, str]
    ) -> None:
        self.status_code = 200
        self.background = None
        self._body = body
        own = {"content-type": media_type, "request-id": request_id, "cache-control": "no-cache"}
        self.init_headers({**own, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response. Dropped, raised by the body, leaves it incomplete, so that it is cut off."""
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(send))
            watching = group.create_task(_cancel_when_gone(receive, sending))
            sending.add_done_callback(lambda _: watching.cancel())

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._body) as body:
            try:
                async for part in body:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            except Dropped:
                return
        await send({"type": "http.response.body", "body": b""})


async def _cancel_when_gone(receive: Receive, sending: "asyncio.Task[None]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()
