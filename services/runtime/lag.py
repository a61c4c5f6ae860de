"""How long the event loop kept others waiting: what blocks it shows here, and only that."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


def _nobody(seconds: float) -> None:
    pass


class Lag:
    """The longest wait, in seconds, that others in the loop had beyond what they asked for.

    Time for which our threads could have run, while the kernel ran others, is no fault of ours and does
    not count.
    """

    def __init__(self, tell: Callable[[float], None] = _nobody) -> None:
        self.longest = 0.0
        self._tell = tell

    def note(self, seconds: float) -> None:
        """A wait of so many seconds."""
        self.longest = max(self.longest, seconds)
        self._tell(seconds)


@contextmanager
def recording_lag(
    interval: float = 0.01,
    *,
    tell: Callable[[float], None] = _nobody,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Iterator[Lag]:
    """Record, while inside, how late a timer of `interval` seconds fires in the running loop, or in `loop`.

    Each time that it fires, `tell` gets how late it was.
    """
    loop = loop or asyncio.get_running_loop()
    lag = Lag(tell)
    timer = loop.call_later(interval, lambda: look())
    before = _starvation()

    def note() -> None:
        """What the timer is late by, but for what the machine is to blame for."""
        nonlocal before
        starved, before = before, _starvation()
        lag.note(max(0.0, loop.time() - timer.when() - max(0.0, before - starved)))

    def look() -> None:
        nonlocal timer
        note()
        timer = loop.call_later(interval, look)

    try:
        yield lag
    finally:
        # What blocked the loop until now never let the timer fire.
        note()
        timer.cancel()


def _starvation() -> float:
    """Seconds for which this process's threads waited for a CPU, so far; 0 where the kernel does not say.

    Any thread's: one sent off its CPU with the interpreter's lock in hand keeps the loop waiting, too.
    """
    waited = 0
    with suppress(FileNotFoundError):
        for thread in os.listdir("/proc/self/task"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                place = os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    waited += int(os.read(place, 100).split()[1])
                finally:
                    os.close(place)
    return waited / 1e9
