"""What was told of the fleet's agents and providers, and the events that tell what is new, once."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from codeframe.v1 import events_pb2, state_pb2
from services.lead.journal import FLEET, Entry, HeadMoved, Journal, Record
from services.lead.peer import RETIRED_AFTER, State
from services.lead.public import instant, timestamp
from services.lead.throttles import Provider, Throttle

PUT_OFF = timedelta(seconds=1)

_IDLE, _WORKING = state_pb2.AGENT_STATE_IDLE, state_pb2.AGENT_STATE_WORKING
_RETIRED, _UNREACHABLE = state_pb2.AGENT_STATE_RETIRED, state_pb2.AGENT_STATE_UNREACHABLE


class Roster:
    """The agents of the fleet and their providers, as the journal's run `fleet` tells of them."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._told: dict[str, State] = {}
        self.throttled: dict[Provider, Throttle] = {}
        """What was told of providers last."""
        self._head = 0
        self._since: datetime | None = None
        self._telling = asyncio.Lock()

    async def recall(self, now: datetime) -> None:
        """Read what was told before this lead started.

        What was trimmed is told again: who reads the journal from its oldest event misses no agent.
        """
        self._since = now
        after = (await self._journal.bounds()).oldest
        while (page := await self._journal.run_entries(FLEET, after)).entries:
            self._fold(page.entries)
            after = page.through
        head = await self._journal.run(FLEET)
        self._head = head.head if head else 0

    async def tell(
        self,
        seen: Mapping[str, State],
        worked: Iterable[str],
        throttles: Mapping[Provider, Throttle],
        now: datetime,
    ) -> None:
        """Journal how agents that were seen, and providers that asked to wait, differ from what was told.

        `worked` are those that had something to do meanwhile, though they may be idle again. One that
        was told of before this lead started, and was not seen since, is unreachable, then retired.
        """
        async with self._telling:
            states = {**self._unseen(now), **seen}
            worked = frozenset(worked)
            events = [
                event
                for agent, state in states.items()
                for event in self._news(agent, state, agent in worked)
            ]
            events += [
                _throttled(provider, throttle)
                for provider, throttle in throttles.items()
                if self._is_news(provider, throttle, now)
            ]
            if not events:
                return
            for event in events:
                event.run_id = FLEET
                event.event_time.CopyFrom(timestamp(now))
            records = [_record(event) for event in events]
            try:
                appended = await self._journal.append(FLEET, records, expected_head=self._head, term=None)
            except HeadMoved as moved:
                self._fold(moved.since)  # what is new beyond that is told the next time
                return
            self._head = appended.last
            for event in events:
                self._note(event)

    def _unseen(self, now: datetime) -> dict[str, State]:
        gone = self._since is not None and now - self._since > RETIRED_AFTER
        return {
            agent: _RETIRED if gone else _UNREACHABLE
            for agent, told in self._told.items()
            if told != _RETIRED
        }

    def _news(self, agent: str, state: State, worked: bool) -> list[events_pb2.Event]:
        told = self._told.get(agent)
        if told == state and not (worked and state == _IDLE):
            return []
        news: list[events_pb2.Event] = []
        if told is None:
            created = events_pb2.AgentCreated(agent_id=agent, agent_type=agent.rpartition("/")[2])
            news.append(events_pb2.Event(agent_created=created))
        elif told == _RETIRED:
            news.append(events_pb2.Event(agent_resumed=events_pb2.AgentResumed(agent_id=agent)))
        if state == _RETIRED:
            news.append(events_pb2.Event(agent_retired=events_pb2.AgentRetired(agent_id=agent)))
            return news
        if worked and state == _IDLE and told != _WORKING:
            news.append(_changed(agent, _WORKING))
        news.append(_changed(agent, state))
        return news

    def _is_news(self, provider: Provider, throttle: Throttle, now: datetime) -> bool:
        """A pause that began or was put off by a second or more, a provider given up or served again."""
        told = self.throttled.get(provider)
        if told and told.unavailable != throttle.unavailable:
            return True
        return throttle.until > now and (not told or throttle.until - told.until >= PUT_OFF)

    def _fold(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._head = entry.revision
            if entry.record.public:
                self._note(events_pb2.Event.FromString(entry.record.body))

    def _note(self, event: events_pb2.Event) -> None:
        match event.WhichOneof("payload"):
            case "agent_created":
                self._told[event.agent_created.agent_id] = state_pb2.AGENT_STATE_UNSPECIFIED
            case "agent_status_changed":
                self._told[event.agent_status_changed.agent_id] = event.agent_status_changed.status
            case "agent_retired":
                self._told[event.agent_retired.agent_id] = _RETIRED
            case "provider_throttled":
                told = event.provider_throttled
                provider = Provider(told.key_fingerprint, told.model_family)
                self.throttled[provider] = Throttle(instant(told.resume_time), told.unavailable, told.message)
            case "agent_resumed":
                self._told[event.agent_resumed.agent_id] = state_pb2.AGENT_STATE_UNSPECIFIED


def _record(event: events_pb2.Event) -> Record:
    return Record(event.WhichOneof("payload") or "", event.SerializeToString(deterministic=True))


def _throttled(provider: Provider, throttle: Throttle) -> events_pb2.Event:
    told = events_pb2.ProviderThrottled(
        key_fingerprint=provider.key,
        model_family=provider.family,
        resume_time=timestamp(throttle.until),
        unavailable=throttle.unavailable,
        message=throttle.message,
    )
    return events_pb2.Event(provider_throttled=told)


def _changed(agent: str, state: State) -> events_pb2.Event:
    return events_pb2.Event(agent_status_changed=events_pb2.AgentStatusChanged(agent_id=agent, status=state))
