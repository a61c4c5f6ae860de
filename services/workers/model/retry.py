"""What to do when a try at a turn failed: ask again after a while, or give up. Decides, does nothing."""

from dataclasses import dataclass

from services.workers.outcome import AttemptFailed, Outcome


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a try failed. `outcome` is how the attempt ends where asking again cannot help.

    `shared` says that the provider refused it for what is not the request's own fault, so that all requests
    with its key and model family had better wait. `retry_after` is what the provider asked for, in seconds.
    """

    detail: str
    outcome: Outcome | None = None
    shared: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a turn may take to be replied to, in seconds.

    `stall` is the time between two events of a stream; `one_try` that of a request with its whole stream.
    `total` counts from a turn's first wait. Waits double from `first_wait` to `longest_wait`. A reply that
    cannot be used is asked for anew, `bad_replies` times.
    """

    connect: float = 10.0
    stall: float = 60.0
    one_try: float = 1200.0
    total: float = 600.0
    first_wait: float = 1.0
    longest_wait: float = 60.0
    bad_replies: int = 2

    def backoff(self, tries: int, chance: float) -> float:
        """The seconds to wait after `tries` failed ones. `chance`, from 0 to 1, spreads them."""
        doubled = self.first_wait * 2.0 ** min(tries - 1, 30)
        return min(self.longest_wait, doubled) * (0.5 + chance / 2)

    def check(self, wait: float, spent: float, tries: int, why: str) -> None:
        """Raise AttemptFailed (PROVIDER_UNAVAILABLE) where `wait` more seconds after `spent` are too many."""
        if spent + wait > self.total:
            raise AttemptFailed(
                Outcome.PROVIDER_UNAVAILABLE,
                f"the model's provider did not serve in {tries} tries, {spent:.0f} s; "
                f"the next would be in {wait:.0f} s: {why}",
            )
