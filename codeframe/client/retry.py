"""Which failed calls are asked again, and when: the rules in the protos' comments."""

from dataclasses import dataclass, field

from codeframe.client.backoff import Backoff
from codeframe.errors import CodeframeError

SNAPSHOT_REASONS = frozenset(
    {"ERROR_REASON_CURSOR_EXPIRED", "ERROR_REASON_LOG_CHANGED", "ERROR_REASON_CURSOR_AHEAD"}
)
"""A watch refused for one of these starts again from a snapshot."""

_PASSING = frozenset({"ERROR_REASON_UNAVAILABLE", "ERROR_REASON_CONTENTION"})
_INTERNAL = "ERROR_REASON_INTERNAL"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Asks again after UNAVAILABLE, CONTENTION, and any status without our ErrorInfo.

    A fault of the server's own is asked about `internal_tries` times in all. RetryInfo is
    obeyed. How often in all is bounded by the caller's deadline.
    """

    backoff: Backoff = field(default_factory=Backoff)
    internal_tries: int = 3

    def delay(self, error: CodeframeError, failures: int, chance: float) -> float | None:
        """Seconds to wait after so many failures in a row; None where asking again is no use."""
        if error.reason == _INTERNAL:
            repeat = failures < self.internal_tries
        else:
            repeat = not error.reason or error.reason in _PASSING
        if not repeat:
            return None
        wanted = error.retry_after.total_seconds() if error.retry_after is not None else 0.0
        return max(wanted, self.backoff.delay(failures, chance))
