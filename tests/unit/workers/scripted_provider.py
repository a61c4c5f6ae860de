"""A server on the loopback that answers Messages requests as a test says, faults included."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Event = dict[str, object]


class ScriptedProvider:
    """Gives its answers one after the other; keeps the requests' bodies and headers."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = list(answers)
        self.bodies: list[dict[str, object]] = []
        self.headers: list[Mapping[str, str]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        assert self._answers, "one request more than the test has answers for"
        return await self._answers.pop(0)(request)


@asynccontextmanager
async def provider(*answers: Answer) -> AsyncIterator[ScriptedProvider]:
    scripted = ScriptedProvider(answers)
    app = web.Application()
    app.router.add_post("/v1/messages", scripted.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield scripted
    finally:
        await runner.cleanup()


def status(code: int, kind: str, message: str, **headers: str) -> Answer:
    """Answer with an error status, in the provider's form."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = {"type": "error", "error": {"type": kind, "message": message}}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(body, status=code, headers={"request-id": f"req_{code}", **named})

    return answer


def stream(*events: Event | bytes, then: Callable[[web.Request], Awaitable[None]] | None = None) -> Answer:
    """Answer with these events (bytes go as they are), then do something before the stream ends."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "request-id": "req_ok"})
        await response.prepare(request)
        for event in events:
            data = event if isinstance(event, bytes) else sse(event)
            await response.write(data)
        if then is not None:
            await then(request)
        return response

    return answer


def sse(event: Event) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


async def cut(request: web.Request) -> None:
    """Cut the connection in the middle of the stream."""
    assert request.transport is not None
    request.transport.abort()


def start(input_tokens: int = 10, cache_write: int = 5, cache_read: int = 3) -> Event:
    usage = {
        "input_tokens": input_tokens,
        "output_tokens": 1,
        "cache_creation_input_tokens": cache_write,
        "cache_read_input_tokens": cache_read,
    }
    message: Event = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test-1", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    return {"type": "message_start", "message": message}


def block(index: int, started: Event, *deltas: Event) -> list[Event]:
    return [
        {"type": "content_block_start", "index": index, "content_block": started},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(said: str, index: int = 0) -> list[Event]:
    pieces: list[Event] = [{"type": "text_delta", "text": piece} for piece in (said[:3], said[3:])]
    return block(index, {"type": "text", "text": ""}, *pieces)


def tool_use(name: str, input_json: str, index: int = 0, call_id: str = "toolu_1") -> list[Event]:
    half = len(input_json) // 2
    halves = (input_json[:half], input_json[half:])
    pieces: list[Event] = [{"type": "input_json_delta", "partial_json": each} for each in halves]
    return block(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}}, *pieces)


def end(stop_reason: str = "end_turn", output_tokens: int = 7, **details: object) -> list[Event]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None, **details}
    usage = {"output_tokens": output_tokens}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


def says(said: str) -> Answer:
    return stream(start(), *text(said), *end())
