"""What to do when a try at a turn failed: ask again after a while, or give up. Decides, does nothing."""

from dataclasses import dataclass

from services.workers.outcome import AttemptFailed, Outcome


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a try failed. `outcome` is how the attempt ends where asking again cannot help.

    `retry_after` is what the provider asked for, in seconds.
    """

    detail: str
    outcome: Outcome | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a turn may take to be replied to, in seconds.

    `stall` is the time between two events of a stream; `one_try` that of a request with its whole stream.
    `total` counts from a turn's first trouble. Waits double from `first_wait` to `longest_wait`.
    """

    connect: float = 10.0
    stall: float = 60.0
    one_try: float = 1200.0
    total: float = 600.0
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def wait_before_next(self, trouble: Trouble, tries: int, spent: float, chance: float) -> float:
        """Return the seconds to wait, after `tries` failed ones and `spent` seconds since the first of them.

        `chance`, from 0 to 1, spreads what would else ask again at the same moment. Raises AttemptFailed
        where it is no use: with the trouble's own outcome, or PROVIDER_UNAVAILABLE.
        """
        if trouble.outcome is not None:
            raise AttemptFailed(trouble.outcome, trouble.detail)
        if trouble.retry_after is not None:
            wait = trouble.retry_after + chance * min(1.0, 0.1 * trouble.retry_after)
        else:
            wait = min(self.longest_wait, self.first_wait * 2.0 ** min(tries - 1, 30)) * (0.5 + chance / 2)
        if spent + wait > self.total:
            told = f"; it asks to wait {trouble.retry_after:g} s" if trouble.retry_after else ""
            raise AttemptFailed(
                Outcome.PROVIDER_UNAVAILABLE,
                f"the model's provider did not serve in {tries} tries, {spent:.0f} s{told}: {trouble.detail}",
            )
        return wait
