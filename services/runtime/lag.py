"""How long the event loop kept others waiting: what blocks it shows here."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Lag:
    """The longest wait, in seconds, that others in the loop had beyond what they asked for."""

    def __init__(self) -> None:
        self.longest = 0.0

    def note(self, late: float) -> None:
        self.longest = max(self.longest, late)


@contextmanager
def recording_lag(interval: float = 0.01) -> Iterator[Lag]:
    """Record, while inside, how late a timer of `interval` seconds fires in the running loop."""
    loop = asyncio.get_running_loop()
    lag = Lag()
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        lag.note(loop.time() - timer.when())
        timer = loop.call_later(interval, look)

    timer = loop.call_later(interval, look)
    try:
        yield lag
    finally:
        # What blocked the loop until now never let the timer fire.
        lag.note(loop.time() - timer.when())
        timer.cancel()
