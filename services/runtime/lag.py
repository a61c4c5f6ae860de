"""How long the event loop kept others waiting: what blocks it shows here, and only that."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _nobody(seconds: float) -> None:
    pass


class Lag:
    """The longest wait, in seconds, that others in the loop had beyond what they asked for.

    Time for which this thread could have run, while the kernel ran others, is no fault of ours and does
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
    with _starvation() as starved:
        timer = loop.call_later(interval, lambda: look())
        before = starved()

        def late() -> float:
            return max(0.0, loop.time() - timer.when() - (starved() - before))

        def look() -> None:
            nonlocal timer, before
            lag.note(late())
            timer = loop.call_later(interval, look)
            before = starved()

        try:
            yield lag
        finally:
            # What blocked the loop until now never let the timer fire.
            lag.note(late())
            timer.cancel()


@contextmanager
def _starvation() -> Iterator[Callable[[], float]]:
    """Tells the seconds for which this thread waited for a CPU, so far; 0 where the kernel does not say."""
    try:
        place = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield lambda: 0.0
        return
    try:
        yield lambda: int(os.pread(place, 100, 0).split()[1]) / 1e9
    finally:
        os.close(place)
