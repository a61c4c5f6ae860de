"""The workers of this lead: looked at, their free slots handed out, what they keep too long released."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc.aio
import structlog

from codeframe.v1 import lead_pb2, worker_pb2, worker_pb2_grpc
from services.lead.journal import Journal, StoreFailed
from services.lead.machine.attempt import Binding
from services.lead.machine.state import Hold
from services.lead.peer import NOT_ASKED, Held, Peer
from services.lead.providers import Providers
from services.lead.roster import Roster
from services.runtime.channel import open_channel

log = structlog.get_logger()


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
        self.providers = Providers(self._roster, clock)

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
    def lacks(self) -> Mapping[str, str]:
        """What workers say that they lack for their roles, by role."""
        found: dict[str, list[str]] = {}
        for peer in self._listed.values():
            if peer.lacks and peer.described:
                for role in peer.described.roles:
                    found.setdefault(role, []).append(peer.lacks)
        return {role: "; ".join(told) for role, told in found.items()}

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
            if role in peer.roles and peer.free(now) > 0 and self.providers.admits(peer, model)
        ]
        if not able:
            return None
        peer = max(able, key=lambda each: each.free(now))
        assert peer.described is not None
        self.providers.dispatched(peer, model, attempt_id)
        self._hold(peer, attempt_id, Held(role, model))
        return Binding(peer.described.name, peer.address, peer.described.incarnation)

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
        self.providers.ended(peer, held.model if held else None, attempt_id, unavailable=unavailable)
        self._freed = True
        if refused:
            peer.refused(asyncio.get_running_loop().time())
        else:
            peer.refusals = 0
        self._look(address)

    def hold_on(self, role: str, model: str) -> Hold | None:
        """Why no worker that serves a role may be given an attempt that asks a model. See Providers."""
        serving = [peer for peer in self._listed.values() if role in peer.roles]
        return self.providers.hold_on(serving, role, model)

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
        worker = peer.to_proto(now, throttled=self.providers.is_throttled(peer))
        worker.provider_pauses.extend(self.providers.pauses_of(worker.key_fingerprint))
        return worker

    async def keep(self) -> None:
        """Look at the workers, and tell what changed, until cancelled."""
        await self._roster.recall(self._clock())
        self.providers.recall()
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
            self.providers.changed.clear()
            try:
                await self._tell()
            except StoreFailed as error:
                log.warning("the journal fails; trying again", problem=str(error))
            now = self._clock()
            end = self.providers.throttles.next_end(now)
            try:
                async with asyncio.timeout((end - now).total_seconds() if end else None):
                    await self.providers.changed.wait()
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
        self.providers.paused(described.provider_pauses)

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
            f"{name}/{role}": peer.state(role, now, throttled=self.providers.is_throttled(peer))
            for (name, role), peer in agents.items()
        }
        worked = [f"{name}/{role}" for (name, role), peer in agents.items() if role in peer.worked]
        for peer in peers:
            peer.worked.clear()
        await self._roster.tell(seen, worked, self.providers.throttles.all, now)
        await self._wake()

    async def _wake(self) -> None:
        """Wake those who wait for roles or slots, where there may be others than before."""
        now = asyncio.get_running_loop().time()
        room: list[tuple[object, ...]] = [
            (peer.address, tuple(peer.roles), peer.lacks, peer.free(now)) for peer in self._listed.values()
        ]
        room += self.providers.held()
        if self._freed or room != self._room or not self._version:
            self._freed, self._room = False, room
            async with self._changed:
                self._version += 1
                self._changed.notify_all()

    async def _release_kept(self, peer: Peer) -> None:
        """Release what a worker keeps though the journal has its end: its lead was killed in between, or
        took it to be lost. One that runs on is cancelled: its run may have ended, and nobody wants to pay."""
        if not peer.described or peer.problem:
            return
        incarnation = peer.described.incarnation
        for attempt_id in peer.described.in_flight:
            if await self._has_ended(attempt_id, peer):
                await self._end(attempt_id, incarnation, peer)
        for attempt_id in peer.described.unreleased:
            if await self._has_ended(attempt_id, peer):
                await self.let_go(attempt_id, peer.address)

    async def _has_ended(self, attempt_id: str, peer: Peer) -> bool:
        """Whether the journal has an attempt's end, and nobody here follows it."""
        if attempt_id in peer.held:
            return False
        stored = await self._journal.attempt(attempt_id)
        return stored is not None and stored.row.final

    async def _end(self, attempt_id: str, incarnation: str, peer: Peer) -> None:
        """Have a worker end an attempt. It is told again with the next look, for as long as it runs."""
        cancelled = worker_pb2.CANCEL_REASON_CANCELLED
        request = worker_pb2.CancelAttemptRequest(
            attempt_id=attempt_id, incarnation=incarnation, reason=cancelled
        )
        try:
            await peer.stub.CancelAttempt(request, timeout=self._rounds.answer)
        except grpc.aio.AioRpcError as error:
            log.debug("not ended yet", attempt=attempt_id, problem=error.code().name)

    async def let_go(self, attempt_id: str, address: str) -> None:
        """Tell a worker that everything of an attempt is held here. Where it does not hear it, it is told
        again once it answers."""
        try:
            request = worker_pb2.ReleaseAttemptRequest(attempt_id=attempt_id)
            await self.stub(address).ReleaseAttempt(request, timeout=self._rounds.answer)
        except grpc.aio.AioRpcError as error:
            log.debug("not released yet", attempt=attempt_id, problem=error.code().name)
