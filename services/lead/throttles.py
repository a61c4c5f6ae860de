"""Which providers ask to wait, whichever worker met it, and which attempt probes one that was given up."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

UNAVAILABLE_PAUSE = timedelta(seconds=30)
"""After an attempt gave a provider up, and no worker says for how long: as its task's pause."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Whom a worker asks, as far as the provider's limits go: its key's fingerprint, and a model family."""

    key: str
    family: str


@dataclass(frozen=True, slots=True)
class Throttle:
    """Nothing is dispatched before `until`; where `unavailable`, one attempt goes first then, as a probe.

    `message` says why, for people.
    """

    until: datetime
    unavailable: bool = False
    message: str = ""


class Throttles:
    """What is known of every provider that asked to wait. Does nothing."""

    def __init__(self) -> None:
        self._throttles: dict[Provider, Throttle] = {}
        self._probes: dict[Provider, str] = {}

    @property
    def all(self) -> Mapping[Provider, Throttle]:
        """Every throttle so far, those that are over too."""
        return self._throttles

    def recall(self, throttles: Mapping[Provider, Throttle]) -> None:
        """Know what was told of before this lead started."""
        self._throttles.update(throttles)

    def pause(self, provider: Provider, until: datetime, message: str = "") -> bool:
        """A worker's provider asks to wait. Whether that is news: it never shortens what was known."""
        before = self._throttles.get(provider)
        if before and before.until >= until:
            return False
        before = before or Throttle(until)
        self._throttles[provider] = replace(before, until=until, message=message or before.message)
        return True

    def give_up(self, provider: Provider, now: datetime) -> None:
        """An attempt ended because its provider did not serve."""
        self.pause(provider, now + UNAVAILABLE_PAUSE)
        self._throttles[provider] = replace(self._throttles[provider], unavailable=True)
        self._probes.pop(provider, None)

    def dispatched(self, provider: Provider, attempt_id: str) -> None:
        """An attempt goes to a provider: it probes it, where that was given up and nobody does yet."""
        throttle = self._throttles.get(provider)
        if throttle and throttle.unavailable:
            self._probes.setdefault(provider, attempt_id)

    def served(self, attempt_id: str, now: datetime) -> bool:
        """A model turn of an attempt was served whole. Whether that ends a throttle: it was the probe."""
        provider = self._probed_by(attempt_id)
        if provider is None:
            return False
        del self._probes[provider]
        self._throttles[provider] = Throttle(min(self._throttles[provider].until, now))
        return True

    def ended(self, attempt_id: str) -> None:
        """An attempt is over. Where it was a probe and was never served, the next one is."""
        provider = self._probed_by(attempt_id)
        if provider is not None:
            del self._probes[provider]

    def admits(self, provider: Provider, now: datetime) -> bool:
        """Whether an attempt may be dispatched on a provider."""
        throttle = self._throttles.get(provider)
        return not throttle or (now >= throttle.until and provider not in self._probes)

    def paused_until(self, provider: Provider, now: datetime) -> datetime | None:
        """When the provider's pause ends; None where there is none now."""
        throttle = self._throttles.get(provider)
        return throttle.until if throttle and now < throttle.until else None

    def next_end(self, now: datetime) -> datetime | None:
        """When the next pause ends."""
        return min((each.until for each in self._throttles.values() if each.until > now), default=None)

    def _probed_by(self, attempt_id: str) -> Provider | None:
        return next((each for each, probe in self._probes.items() if probe == attempt_id), None)
