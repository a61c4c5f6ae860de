"""Ports that a test may count on: to be there again after a restart, or to have nobody behind them."""

import random
import socket
from pathlib import Path

_CHANCE = random.SystemRandom()  # the other seeds are the same in every process of a run


def free_port() -> int:
    """A port that nobody listens on, and that the kernel gives to nobody who asks for any."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    for _ in range(1000):
        port = _CHANCE.randrange(10_000, int(given[0]))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
