"""Limits that a provider sets: how fast it may be asked, and how long a conversation may be."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from demo.claude.errors import ApiError


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many requests a second, and as many at once, but at least one."""

    per_second: float

    @property
    def burst(self) -> float:
        """How many are served at once after a while without any."""
        return max(1.0, self.per_second)


class Limits:
    """What requests are held against. `monotonic` is in seconds; where a limit is None there is none."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        now: Callable[[], datetime],
        rate: RateLimit | None = None,
        context_tokens: int | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._now = now
        self._rate = rate
        self._context_tokens = context_tokens
        self._left = rate.burst if rate else math.inf
        self._at = monotonic()

    def take(self) -> Mapping[str, str]:
        """Count a request; the headers that tell what is left. Raises ApiError (429, with retry-after)."""
        if self._rate is None:
            return {}
        now = self._monotonic()
        self._left = min(self._rate.burst, self._left + (now - self._at) * self._rate.per_second)
        self._at = now
        served = self._left >= 1
        self._left -= served
        headers = self._headers(self._rate)
        if not served:
            wait = math.ceil((1 - self._left) / self._rate.per_second)
            message = (
                f"This request would exceed the rate limit of {self._rate.per_second:g} requests a second"
            )
            raise ApiError(429, message, retry_after=wait, headers=headers)
        return headers

    def check_length(self, tokens: int) -> None:
        """Raise ApiError (400) where a conversation has more tokens than the model's context holds."""
        if self._context_tokens is not None and tokens > self._context_tokens:
            raise ApiError(400, f"prompt is too long: {tokens} tokens > {self._context_tokens} maximum")

    def _headers(self, rate: RateLimit) -> Mapping[str, str]:
        full = self._now() + timedelta(seconds=(rate.burst - self._left) / rate.per_second)
        prefix = "anthropic-ratelimit-requests"
        return {
            f"{prefix}-limit": f"{rate.per_second * 60:.0f}",
            f"{prefix}-remaining": f"{math.floor(self._left)}",
            f"{prefix}-reset": full.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
