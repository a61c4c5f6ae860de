"""The gate before a provider: how fast, and when again, one model family may be asked with one key.

Pure: it decides, and waits for nothing. Instants are monotonic seconds.

No limit is known at first. A refusal pauses the gate until the provider's retry-after (or for a backoff of
its own) and slows it to less than what was served lately; from there the rate grows by a little with each
request that is served (additive increase, multiplicative decrease), so that all processes that share a key
come to share its limit, and none needs to know it. After a minute without a refusal the limit is forgotten.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime

WINDOW = 10.0
DECREASE = 0.8  # of the rate, at a refusal
INCREASE = 0.2  # of the rate after the last refusal, each second that the gate is used
LOWEST_RATE = 0.1
FIRST_RATE = 1.0
FORGET_AFTER = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
MAX_COUNTED = 1000


@dataclass(frozen=True, slots=True)
class Pause:
    """The provider asked to wait, or does not serve: nothing is asked with that key, of that model family.

    `message` says why, for people.
    """

    key_fingerprint: str
    model_family: str
    resume_time: datetime
    message: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request's turn: it may be sent at `at`, unless the gate was paused meanwhile."""

    at: float
    epoch: int


class Gate:
    """One key's gate for one model family, in one process."""

    def __init__(self) -> None:
        self.paused_until = 0.0
        self.why = ""
        """What the provider said as it refused last."""
        self.rate: float | None = None
        """Requests a second; None where no limit is known."""
        self._base = FIRST_RATE
        self._epoch = 0
        self._next_at = 0.0
        self._refused_at = 0.0
        self._refusals = 0
        self._served: deque[float] = deque(maxlen=MAX_COUNTED)

    def ask(self, now: float) -> Ticket:
        """Take the next turn. Wait until it comes, then see with `holds` whether it still is one."""
        if self.rate is not None and now - max(self._refused_at, self.paused_until) > FORGET_AFTER:
            self.rate = None
        at = max(now, self._next_at, self.paused_until)
        self._next_at = at + (1.0 / self.rate if self.rate is not None else 0.0)
        return Ticket(at, self._epoch)

    def holds(self, ticket: Ticket) -> bool:
        """Whether a turn that has come may be used; else ask again."""
        return ticket.epoch == self._epoch

    def served(self, now: float) -> None:
        """The provider began to answer a request."""
        self._served.append(now)
        self._refusals = 0
        if self.rate is not None:
            self.rate += INCREASE * self._base / self.rate

    def refused(
        self, ticket: Ticket, now: float, retry_after: float | None, chance: float, why: str = ""
    ) -> None:
        """The provider refused a request for what is not the request's own fault: pause, and slow down.

        Requests that were sent together are refused together: they slow the gate once. `chance`, from 0 to
        1, spreads processes that would else ask again at the same moment.
        """
        self.why = why
        first = ticket.epoch == self._epoch
        if first:
            self._epoch += 1
            self._refusals += 1
            self._slow_down(now)
        if retry_after is not None:
            pause = retry_after + chance * min(1.0, 0.1 * retry_after)
        elif first:
            doubled = FIRST_PAUSE * 2.0 ** min(self._refusals - 1, 30)
            pause = min(LONGEST_PAUSE, doubled) * (0.5 + chance / 2)
        else:
            return
        if now + pause > self.paused_until:
            self.paused_until = now + pause
            self._next_at = self.paused_until

    def _slow_down(self, now: float) -> None:
        self._base = max(LOWEST_RATE, DECREASE * (self.rate if self.rate is not None else self._seen(now)))
        self.rate = self._base
        self._refused_at = now

    def _seen(self, now: float) -> float:
        """The rate at which requests were served lately."""
        lately = [at for at in self._served if now - at <= WINDOW]
        return len(lately) / max(1.0, now - lately[0]) if lately else FIRST_RATE
