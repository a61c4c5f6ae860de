"""Channels to our servers, from clients and between services: one a peer."""

from collections.abc import Sequence

import grpc.aio

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
    # A peer on loopback is never behind a proxy.
    ("grpc.enable_http_proxy", 0),
)


def open_channel(address: str, options: Sequence[tuple[str, int]] = ()) -> grpc.aio.Channel:
    """A plaintext channel to `host:port`, with more options; it connects at the first call."""
    return grpc.aio.insecure_channel(address, options=(*_OPTIONS, *options))
