"""Whom the fleet's workers ask, and who of these may be asked now."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from codeframe.v1 import state_pb2
from services.lead.machine.state import Hold
from services.lead.peer import Peer
from services.lead.public import instant, timestamp
from services.lead.roster import Roster
from services.lead.throttles import Provider, Throttles

TOLD_FROM = timedelta(seconds=1)
"""A pause of an agent or a task is told where so much of it is left."""


class Providers:
    """What is known of the providers, by what workers told and how attempts ended.

    `changed` is set as one asks to wait, is given up, or serves again.
    """

    def __init__(self, roster: Roster, clock: Callable[[], datetime]) -> None:
        self.throttles = Throttles()
        self.changed = asyncio.Event()
        self._roster = roster
        self._clock = clock

    def recall(self) -> None:
        """Know what was told of before this lead started."""
        self.throttles.recall(self._roster.throttled)

    def paused(self, pauses: Iterable[state_pb2.ProviderPause]) -> None:
        """A worker told what its provider has paused: that holds for every worker with that key."""
        for pause in pauses:
            provider = Provider(pause.key_fingerprint, pause.model_family)
            if self.throttles.pause(provider, instant(pause.resume_time), pause.message):
                self.changed.set()

    def served(self, attempt_id: str) -> None:
        """A model turn of an attempt was served whole."""
        if self.throttles.served(attempt_id, self._clock()):
            self.changed.set()

    def admits(self, peer: Peer, model: str | None) -> bool:
        """Whether a worker may be given an attempt that asks a model; None: none."""
        provider = peer.provider(model)
        return not provider or self.throttles.admits(provider, self._clock())

    def dispatched(self, peer: Peer, model: str | None, attempt_id: str) -> None:
        """A worker is given an attempt that asks a model."""
        if provider := peer.provider(model):
            self.throttles.dispatched(provider, attempt_id)

    def ended(self, peer: Peer, model: str | None, attempt_id: str, *, unavailable: bool) -> None:
        """An attempt is over; its provider may have been unavailable to it."""
        self.throttles.ended(attempt_id)
        if unavailable and (provider := peer.provider(model)):
            self.throttles.give_up(provider, self._clock())
            self.changed.set()

    def hold_on(self, serving: Sequence[Peer], role: str, model: str) -> Hold | None:
        """Why none of the workers that serve a role may be given an attempt that asks a model.

        None where one may, or there is none. What is over within a second is not worth a word.
        """
        soon = self._clock() + TOLD_FROM
        providers = [peer.provider(model) for peer in serving]
        if not serving or any(not each or self.throttles.admits(each, soon) for each in providers):
            return None
        ends = [self._told_end(each, soon) for each in providers if each]
        return Hold(role, model, min((end for end in ends if end), default=None))

    def is_throttled(self, peer: Peer) -> bool:
        """Whether the provider of a worker's own model is paused for more than a second."""
        provider = peer.provider("")
        return bool(provider and self.throttles.paused_until(provider, self._clock() + TOLD_FROM))

    def held(self) -> list[tuple[Provider, datetime | None]]:
        """Who may not be asked now, and until when, as was told; None: another attempt probes first."""
        now = self._clock()
        return [
            (provider, self._told_end(provider, now))
            for provider in self.throttles.all
            if not self.throttles.admits(provider, now)
        ]

    def pauses_of(self, key: str) -> list[state_pb2.ProviderPause]:
        """What is paused for a key now."""
        now = self._clock()
        return [
            state_pb2.ProviderPause(
                key_fingerprint=key,
                model_family=provider.family,
                resume_time=timestamp(throttle.until),
                message=throttle.message,
            )
            for provider, throttle in self.throttles.all.items()
            if provider.key == key and throttle.until > now
        ]

    def _told_end(self, provider: Provider, now: datetime) -> datetime | None:
        told = self._roster.throttled.get(provider)
        return told.until if told and told.until > now else None
