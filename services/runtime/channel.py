"""Channels between services: one a peer, with bounds on what is sent."""

import grpc.aio

from codeframe import channel

MAX_REQUEST = 16 * 1024 * 1024
"""Bytes of a request, at most."""

MAX_REPLY = 1024 * 1024
"""Bytes of a reply, at most: what is big is an artifact, in chunks."""

_BOUNDS = (
    ("grpc.max_send_message_length", MAX_REQUEST),
    # A reply a little over its bound is better read than refused for ever.
    ("grpc.max_receive_message_length", 2 * MAX_REPLY),
)


def open_channel(address: str) -> grpc.aio.Channel:
    """A plaintext channel to `host:port` on loopback; it connects at the first call."""
    return channel.open_channel(address, _BOUNDS)
