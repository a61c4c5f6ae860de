"""Client channels between services: one a peer."""

import grpc.aio

MAX_REQUEST = 16 * 1024 * 1024
"""Bytes of a request, at most."""

MAX_REPLY = 1024 * 1024
"""Bytes of a reply, at most: what is big is an artifact, in chunks."""

_OPTIONS: tuple[tuple[str, int], ...] = (
    # A dead peer is noticed after 30 s, though nothing is sent.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Without it a stream that is not read buffers megabytes.
    ("grpc.http2.bdp_probe", 0),
    # A peer that comes back is found soon; asking again is decided in one layer, the caller's.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Whatever its name says: how long a connection may take. A peer that is far or busy needs its time.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", MAX_REQUEST),
    # A reply a little over its bound is better read than refused for ever.
    ("grpc.max_receive_message_length", 2 * MAX_REPLY),
)


def open_channel(address: str) -> grpc.aio.Channel:
    """A plaintext channel to `host:port` on loopback; it connects at the first call."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)
