"""An attempt's time, and how it is told to end before that."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from services.workers.outcome import AttemptFailed, Outcome


class Halt:
    """Ends the work of one attempt: when its time is over, or when somebody asks for it.

    The work is cancelled where it stands, and unwinds; what the attempt does after it (commit, push,
    evidence) is not touched.
    """

    def __init__(self) -> None:
        self._reason: AttemptFailed | None = None
        self._scope: asyncio.Timeout | None = None

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._reason is not None

    def ask(self, outcome: Outcome, message: str) -> None:
        """Have the work end with an outcome. The first to ask decides which."""
        if self._reason is not None:
            return
        self._reason = AttemptFailed(outcome, message)
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(0)

    @asynccontextmanager
    async def within(self, seconds: float, then: Outcome = Outcome.TIMED_OUT) -> AsyncIterator[None]:
        """Do what is inside for at most so long. Raises AttemptFailed where it was ended. Entered once."""
        scope = self._scope = asyncio.timeout(0 if self.asked else seconds)
        try:
            async with scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise self._reason or AttemptFailed(then, f"not done within {seconds:g} s") from None
        finally:
            self._scope = None

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """While entered inside `within`, its time does not run. Never nested."""
        loop, scope = asyncio.get_running_loop(), self._scope
        if scope is None or self.asked or scope.expired() or (end := scope.when()) is None:
            yield  # no time runs here
            return
        left = end - loop.time()
        scope.reschedule(None)
        try:
            yield
        finally:
            if scope.when() is None and not scope.expired():
                scope.reschedule(loop.time() + left)
