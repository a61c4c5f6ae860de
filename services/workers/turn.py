"""One turn, as the model tells what it takes."""

from dataclasses import replace

from services.workers.broadcast import Activity, Broadcast
from services.workers.clock import Clock
from services.workers.desk import Desk
from services.workers.purse import Purse
from services.workers.tools.clip import line
from services.workers.work import ModelUsage

REQUEST_IDS = 5  # the last, of a turn that was asked again and again


class Turn:
    """What one turn takes, as the model tells it; and its waiting for the provider."""

    def __init__(self, desk: Desk, broadcast: Broadcast, clock: Clock, purse: Purse) -> None:
        self._desk = desk
        self._broadcast = broadcast
        self._clock = clock
        self._purse = purse
        self.usage: ModelUsage | None = None
        self.request_ids: tuple[str, ...] = ()
        self.waited = 0.0

    def begin_try(self) -> None:
        """A request is about to be sent. Raises AttemptFailed where no more may be spent."""
        self._purse.ask_again()

    def paid(self, usage: ModelUsage, request_id: str) -> None:
        """Add a try; all are one turn, of the model that was named last."""
        before = ModelUsage(usage.model) if self.usage is None else replace(self.usage, model=usage.model)
        self.usage = replace(before + usage, turns=1)
        self.request_ids = (*self.request_ids, request_id)[-REQUEST_IDS:]
        self._purse.pay(usage)

    async def wait(self, seconds: float, reason: str) -> None:
        """Wait with the attempt's clock stopped, and say so where it takes a second or more.

        Raises AttemptFailed where no more may be spent.
        """
        self._purse.ask_again()
        if seconds >= 1:
            await self._broadcast(Activity("model", f"asks again in {seconds:.0f} s: {line(reason, 500)}"))
        started = self._clock.monotonic()
        try:
            with self._desk.clock_stopped():
                await self._clock.sleep(seconds)
        finally:
            self.waited += self._clock.monotonic() - started
