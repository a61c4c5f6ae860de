"""What an agent may spend, asked before each turn."""

from collections.abc import Iterable

from services.workers.outcome import AttemptFailed, Outcome
from services.workers.work import Limits, ModelUsage


def check_may_go_on(limits: Limits, turns: int, usage: Iterable[ModelUsage]) -> None:
    """Raise AttemptFailed where an agent that took so many turns, and so much, may not ask for one more."""
    if turns >= limits.turns:
        raise AttemptFailed(Outcome.STUCK, f"not done after {turns} turns")
