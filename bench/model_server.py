"""python -m bench.model_server: a model that replies after 50 ms, and does nothing else.

It is light, so as not to be what is measured. It writes its port to standard output, and ends with its
standard input.
"""

import asyncio
import json
import sys
from collections.abc import Mapping

from bench.process import until_parent_ends

SECONDS = 0.05
"""From the request's last byte to the reply."""


class Connection(asyncio.Protocol):
    """One client's connection: HTTP/1.1 with lengths, one request at a time."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Reply to each request once it is whole."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = self._received[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        whole = end + 4 + int(length or b"0")
        if len(self._received) >= whole:
            del self._received[:whole]
            asyncio.get_running_loop().call_later(SECONDS, self._transport.write, self._reply)


def reply() -> bytes:
    """A streamed message that says that the work is done."""
    usage = {
        "input_tokens": 900,
        "output_tokens": 1,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
    message: Mapping[str, object] = {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    events: list[Mapping[str, object]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It is done."}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]
    body = b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        f"request-id: req_bench\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def serve() -> None:
    """Serve on a free port until the parent ends."""
    said = reply()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(said), "127.0.0.1", 0, backlog=2000
    )
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await until_parent_ends()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve()))
