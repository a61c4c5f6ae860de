"""The workers of this lead: looked at, their free slots handed out, what they keep too long released."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc.aio
import structlog

from codeframe.v1 import lead_pb2, state_pb2, worker_pb2, worker_pb2_grpc
from services.lead.journal import Journal, StoreFailed
from services.lead.machine.state import Binding, Hold
from services.lead.peer import NOT_ASKED, Held, Peer
from services.lead.public import instant, timestamp
from services.lead.roster import Roster
from services.lead.throttles import Provider, Throttles
from services.runtime.channel import open_channel

log = structlog.get_logger()

TOLD_FROM = timedelta(seconds=1)
"""A pause of an agent or a task is told where so much of it is left."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often each worker is looked at, and how long it may take to answer; in seconds."""

    every: float = 2.0
    answer: float = 5.0


class Fleet:
    """Looks at every worker each 2 s, and after each attempt that ended.

    `await keep()` runs for as long as the lead does. `reserve` hands out free slots;
    whoever got one holds it until `release`.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        journal: Journal,
        *,
        rounds: Rounds | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._journal = journal
        self._roster = Roster(journal)
        self._rounds = rounds or Rounds()
        self._clock = clock
        self._listed = {address: Peer(address, open_channel(address)) for address in addresses}
        self._others: dict[str, Peer] = {}
        self._look_now = {address: asyncio.Event() for address in addresses}
        self._changed = asyncio.Condition()
        self._version = 0
        self._freed = True
        self._room: list[tuple[object, ...]] = []
        self._throttles = Throttles()
        self._throttled = asyncio.Event()

    def stub(self, address: str) -> "worker_pb2_grpc.WorkerServiceAsyncStub":
        """The calls to a worker."""
        return self._peer(address).stub

    def channel(self, address: str) -> grpc.aio.Channel:
        """The one channel to a worker."""
        return self._peer(address).channel

    def _peer(self, address: str) -> Peer:
        """A worker; one that is listed no more is still asked for what it was given before."""
        if address in self._listed:
            return self._listed[address]
        if address not in self._others:
            self._others[address] = Peer(address, open_channel(address))
        return self._others[address]

    @property
    def roles(self) -> frozenset[str]:
        """Roles that a worker which answers serves."""
        return frozenset(role for peer in self._listed.values() for role in peer.roles)

    @property
    def known_roles(self) -> frozenset[str]:
        """Roles of every worker that has answered, though it may be away now."""
        told = (peer.described for peer in self._listed.values() if peer.described)
        return frozenset(role for described in told for role in described.roles)

    @property
    def models(self) -> Mapping[str, frozenset[str]]:
        """Models that workers which answer ask where a task names none, by the roles that they serve."""
        found: dict[str, set[str]] = {}
        for peer in self._listed.values():
            for role in peer.roles:
                found.setdefault(role, set())
                if peer.described and peer.described.model:
                    found[role].add(peer.described.model)
        return {role: frozenset(models) for role, models in found.items()}

    def reserve(self, attempt_id: str, role: str, model: str | None) -> Binding | None:
        """Hold a slot of the worker with the most free ones, for an attempt; None where there is none.

        `model` is what the attempt asks, empty for the worker's own, None where it asks none: a worker
        whose provider of it is paused, or probed by another attempt, gets no attempt that asks.
        """
        now = asyncio.get_running_loop().time()
        able = [
            peer
            for peer in self._listed.values()
            if role in peer.roles and peer.free(now) > 0 and self._admits(peer, model)
        ]
        if not able:
            return None
        peer = max(able, key=lambda each: each.free(now))
        assert peer.described is not None
        if provider := peer.provider(model):
            self._throttles.dispatched(provider, attempt_id)
        self._hold(peer, attempt_id, Held(role, model))
        return Binding(peer.described.name, peer.address, peer.described.incarnation)

    def _admits(self, peer: Peer, model: str | None) -> bool:
        provider = peer.provider(model)
        return not provider or self._throttles.admits(provider, self._clock())

    def hold(self, attempt_id: str, role: str, model: str | None, address: str) -> None:
        """Hold the slot of an attempt that was bound before this lead started."""
        self._hold(self._peer(address), attempt_id, Held(role, model))

    def _hold(self, peer: Peer, attempt_id: str, held: Held) -> None:
        peer.hold(attempt_id, held)
        self._look(peer.address)

    def release(
        self, attempt_id: str, address: str, *, refused: bool = False, unavailable: bool = False
    ) -> None:
        """Free a slot. A worker that `refused` is asked again after a pause, or once it is full no more.

        Where its provider was `unavailable` to the attempt, another one probes that before others go.
        """
        peer = self._peer(address)
        held = peer.held.pop(attempt_id, None)
        self._throttles.ended(attempt_id)
        if unavailable and held and (provider := peer.provider(held.model)):
            self._throttles.give_up(provider, self._clock())
        self._freed = True
        if refused:
            peer.refused(asyncio.get_running_loop().time())
        else:
            peer.refusals = 0
        self._look(address)

    def paused(self, pauses: Iterable[state_pb2.ProviderPause]) -> None:
        """A worker told what its provider has paused: that holds for every worker with that key."""
        for pause in pauses:
            provider = Provider(pause.key_fingerprint, pause.model_family)
            if self._throttles.pause(provider, instant(pause.resume_time)):
                self._throttled.set()

    def served(self, attempt_id: str) -> None:
        """A model turn of an attempt was served whole."""
        if self._throttles.served(attempt_id, self._clock()):
            self._throttled.set()

    def hold_on(self, role: str, model: str) -> Hold | None:
        """Why no worker that serves a role may be given an attempt that asks a model, though some answer.

        None where one may, as far as its provider goes. What is over within a second is not worth a word.
        """
        serving = [peer for peer in self._listed.values() if role in peer.roles]
        soon = self._clock() + TOLD_FROM
        providers = [peer.provider(model) for peer in serving]
        if not serving or any(not each or self._throttles.admits(each, soon) for each in providers):
            return None
        ends = [self._told_end(each, soon) for each in providers if each]
        return Hold(role, model, min((end for end in ends if end), default=None))

    def _told_end(self, provider: Provider, now: datetime) -> datetime | None:
        """When a provider's pause ends, as was told; None where there is none now."""
        told = self._roster.throttled.get(provider)
        return told.until if told and told.until > now else None

    def _is_throttled(self, peer: Peer) -> bool:
        """Whether the provider of a worker's own model is paused for more than a second."""
        provider = peer.provider("")
        return bool(provider and self._throttles.paused_until(provider, self._clock() + TOLD_FROM))

    def _look(self, address: str) -> None:
        if address in self._look_now:
            self._look_now[address].set()

    async def changed(self, version: int) -> int:
        """Wait until something that placing depends on may differ from what it was at `version`.

        Version 0 was before every worker had been asked once.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._version != version)
            return self._version

    def workers(self) -> list[lead_pb2.Worker]:
        """Every worker as the API shows it, by address."""
        now = self._clock()
        return [self._worker(peer, now) for _, peer in sorted(self._listed.items())]

    def _worker(self, peer: Peer, now: datetime) -> lead_pb2.Worker:
        worker = peer.to_proto(now, throttled=self._is_throttled(peer))
        for provider, throttle in self._throttles.all.items():
            if provider.key == worker.key_fingerprint and throttle.until > now:
                worker.provider_pauses.add(
                    key_fingerprint=provider.key,
                    model_family=provider.family,
                    resume_time=timestamp(throttle.until),
                )
        return worker

    async def keep(self) -> None:
        """Look at the workers, and tell what changed, until cancelled."""
        await self._roster.recall(self._clock())
        self._throttles.recall(self._roster.throttled)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_throttles())
            for peer in self._listed.values():
                group.create_task(self._keep(peer))

    async def close(self) -> None:
        """Close the channels."""
        for peer in (*self._listed.values(), *self._others.values()):
            await peer.channel.close()

    async def _keep(self, peer: Peer) -> None:
        look_now = self._look_now[peer.address]
        while True:
            look_now.clear()
            await self._ask(peer)
            try:
                await self._tell()
                await self._release_kept(peer)
            except StoreFailed as error:
                log.warning("the journal fails; trying again", problem=str(error))
            try:
                async with asyncio.timeout(self._pause(peer)):
                    await look_now.wait()
            except TimeoutError:
                continue

    async def _keep_throttles(self) -> None:
        """Tell of pauses as they are met, and have those who wait look again as they begin and end."""
        while True:
            self._throttled.clear()
            try:
                await self._tell()
            except StoreFailed as error:
                log.warning("the journal fails; trying again", problem=str(error))
            now = self._clock()
            end = self._throttles.next_end(now)
            try:
                async with asyncio.timeout((end - now).total_seconds() if end else None):
                    await self._throttled.wait()
            except TimeoutError:
                continue

    def _pause(self, peer: Peer) -> float:
        """Until the next look; or until a worker that refused may be asked again, where that is sooner."""
        refused_for = peer.refused_until - asyncio.get_running_loop().time()
        return min(self._rounds.every, refused_for) if refused_for > 0 else self._rounds.every

    async def _ask(self, peer: Peer) -> None:
        try:
            described = await peer.stub.DescribeWorker(
                worker_pb2.DescribeWorkerRequest(), timeout=self._rounds.answer
            )
        except grpc.aio.AioRpcError as error:
            problem = f"{error.code().name}: {error.details() or 'no answer'}"
            if peer.problem in ("", NOT_ASKED):
                log.warning("a worker does not answer; asking on", worker=peer.address, problem=problem)
            peer.problem = problem
            return
        if peer.problem:
            log.info("a worker answers", worker=peer.address, name=described.name, roles=[*described.roles])
        peer.answered(described, self._clock())
        self.paused(described.provider_pauses)

    async def _tell(self) -> None:
        """Tell readers of the journal what is new of agents, and those who wait for slots to look again."""
        peers = self._listed.values()
        if any(peer.problem == NOT_ASKED for peer in peers):
            return
        now = self._clock()
        agents = {
            (peer.described.name, role): peer
            for peer in peers
            if peer.described
            for role in peer.described.roles
        }
        seen = {
            f"{name}/{role}": peer.state(role, now, throttled=self._is_throttled(peer))
            for (name, role), peer in agents.items()
        }
        worked = [f"{name}/{role}" for (name, role), peer in agents.items() if role in peer.worked]
        for peer in peers:
            peer.worked.clear()
        await self._roster.tell(seen, worked, self._throttles.all, now)
        await self._wake()

    async def _wake(self) -> None:
        """Wake those who wait for roles or slots, where there may be others than before."""
        now = asyncio.get_running_loop().time()
        room: list[tuple[object, ...]] = [
            (peer.address, tuple(peer.roles), peer.free(now)) for peer in self._listed.values()
        ]
        room += self._held_providers()
        if self._freed or room != self._room or not self._version:
            self._freed, self._room = False, room
            async with self._changed:
                self._version += 1
                self._changed.notify_all()

    def _held_providers(self) -> list[tuple[object, ...]]:
        """Which providers may not be asked now, and until when, as was told."""
        now = self._clock()
        return [
            (provider, self._told_end(provider, now))
            for provider in self._throttles.all
            if not self._throttles.admits(provider, now)
        ]

    async def _release_kept(self, peer: Peer) -> None:
        """Release what a worker keeps though the journal has its end: its lead was killed in between, or
        took it to be lost."""
        if not peer.described or peer.problem:
            return
        for attempt_id in peer.described.unreleased:
            if attempt_id in peer.held:
                continue
            stored = await self._journal.attempt(attempt_id)
            if stored and stored.row.final:
                await self.let_go(attempt_id, peer.address)

    async def let_go(self, attempt_id: str, address: str) -> None:
        """Tell a worker that everything of an attempt is held here. Where it does not hear it, it is told
        again once it answers."""
        try:
            request = worker_pb2.ReleaseAttemptRequest(attempt_id=attempt_id)
            await self.stub(address).ReleaseAttempt(request, timeout=self._rounds.answer)
        except grpc.aio.AioRpcError as error:
            log.debug("not released yet", attempt=attempt_id, problem=error.code().name)
