"""How long to wait before the same thing is tried again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubles from `first` to `limit`, both in seconds, and takes at most half off by chance."""

    first: float = 0.1
    limit: float = 5.0

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures in a row (from 1); `chance` lies in 0..1."""
        whole = min(self.limit, self.first * 2.0 ** min(failures - 1, 60))
        return whole * (1 - chance / 2)
