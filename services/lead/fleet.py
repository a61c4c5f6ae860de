"""The workers of this lead: seen or not, their free slots, and the fleet events that tell it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import grpc.aio
import structlog

from codeframe.v1 import events_pb2, lead_pb2, state_pb2, worker_pb2, worker_pb2_grpc
from services.lead.journal import FLEET, Filter, HeadMoved, Journal, Record
from services.lead.machine.state import Binding
from services.lead.public import timestamp
from services.runtime.channel import open_channel

log = structlog.get_logger()

LOOK_EVERY = 2.0
DESCRIBE_TIMEOUT = 5.0
RETIRED_AFTER = timedelta(seconds=60)
SHORTEST_REFUSAL, LONGEST_REFUSAL = 1.0, 30.0

State: TypeAlias = state_pb2.AgentState.ValueType


@dataclass(slots=True)
class Peer:
    """A worker's address, and what is known of who answers there."""

    address: str
    channel: grpc.aio.Channel
    stub: worker_pb2_grpc.WorkerServiceStub
    described: worker_pb2.DescribeWorkerResponse | None = None
    seen: datetime | None = None
    problem: str = "not asked yet"
    held: set[str] = field(default_factory=set)
    refusals: int = 0
    refused_until: float = 0.0

    @property
    def reachable(self) -> bool:
        """Whether it answered when it was last asked."""
        return self.described is not None and not self.problem

    def free(self, now: float) -> int:
        """Slots that neither it nor this lead knows to be taken."""
        if not self.described or self.problem or self.described.draining or now < self.refused_until:
            return 0
        return self.described.slots - len(self.held | set(self.described.in_flight))

    def state(self, now: datetime) -> State:
        """The state of its agents."""
        if not self.described or (self.seen and now - self.seen > RETIRED_AFTER):
            return state_pb2.AGENT_STATE_RETIRED
        if self.problem:
            return state_pb2.AGENT_STATE_UNREACHABLE
        if self.described.draining:
            return state_pb2.AGENT_STATE_DRAINING
        busy = bool(self.held or self.described.in_flight)
        return state_pb2.AGENT_STATE_WORKING if busy else state_pb2.AGENT_STATE_IDLE


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
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._peers: dict[str, Peer] = {}
        self._told: dict[str, State] = {}
        self._head = 0
        self._look_now = asyncio.Event()
        self._changed = asyncio.Condition()
        self._version = 0
        for address in addresses:
            channel = open_channel(address)
            self._peers[address] = Peer(address, channel, worker_pb2_grpc.WorkerServiceStub(channel))

    def stub(self, address: str) -> worker_pb2_grpc.WorkerServiceStub:
        """The calls to a worker; an address that is listed no more is still asked for what it holds."""
        return self._peer(address).stub

    def channel(self, address: str) -> grpc.aio.Channel:
        """The one channel to a worker."""
        return self._peer(address).channel

    def _peer(self, address: str) -> Peer:
        if address not in self._peers:
            channel = open_channel(address)
            self._peers[address] = Peer(address, channel, worker_pb2_grpc.WorkerServiceStub(channel))
        return self._peers[address]

    @property
    def roles(self) -> frozenset[str]:
        """Roles that a worker which answers serves."""
        return frozenset(
            role
            for peer in self._peers.values()
            if peer.reachable and peer.described
            for role in peer.described.roles
        )

    def reserve(self, attempt_id: str, role: str) -> Binding | None:
        """Hold a slot of the worker with the most free ones, for an attempt; None where there is none."""
        now = asyncio.get_running_loop().time()
        able = [
            peer
            for peer in self._peers.values()
            if peer.described and role in peer.described.roles and peer.free(now) > 0
        ]
        if not able:
            return None
        peer = max(able, key=lambda each: each.free(now))
        assert peer.described is not None
        peer.held.add(attempt_id)
        return Binding(peer.described.name, peer.address, peer.described.incarnation)

    def hold(self, attempt_id: str, address: str) -> None:
        """Hold the slot of an attempt that was bound before this lead started."""
        self._peer(address).held.add(attempt_id)

    def release(self, attempt_id: str, address: str, *, refused: bool = False) -> None:
        """Free a slot. A worker that `refused` is asked again after a pause, which doubles up to 30 s."""
        peer = self._peer(address)
        peer.held.discard(attempt_id)
        if refused:
            pause = min(SHORTEST_REFUSAL * 2**peer.refusals, LONGEST_REFUSAL)
            peer.refusals += 1
            peer.refused_until = asyncio.get_running_loop().time() + pause
        else:
            peer.refusals = 0
        self._look_now.set()

    async def changed(self, version: int) -> int:
        """Wait until something that placing depends on may differ from what it was at `version`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._version != version)
            return self._version

    def workers(self) -> list[lead_pb2.Worker]:
        """Every worker as the API shows it, by address."""
        return [self._worker(peer) for _, peer in sorted(self._peers.items())]

    def _worker(self, peer: Peer) -> lead_pb2.Worker:
        worker = lead_pb2.Worker(address=peer.address, problem=peer.problem)
        worker.state = peer.state(self._clock()) if peer.described else state_pb2.AGENT_STATE_UNREACHABLE
        if peer.described:
            told = peer.described
            worker.name, worker.slots, worker.in_flight = told.name, told.slots, len(told.in_flight)
            worker.roles.extend(told.roles)
            worker.sandbox_mode, worker.model = told.sandbox_mode, told.model
            worker.version, worker.incarnation = told.version, told.incarnation
        if peer.seen:
            worker.seen_time.CopyFrom(timestamp(peer.seen))
        return worker

    async def keep(self) -> None:
        """Look at the workers, and tell what changed, until cancelled."""
        await self._recall()
        while True:
            self._look_now.clear()
            async with asyncio.TaskGroup() as group:
                for peer in list(self._peers.values()):
                    group.create_task(self._look(peer))
            await self._tell()
            async with self._changed:
                self._version += 1
                self._changed.notify_all()
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await self._look_now.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Close the channels."""
        for peer in self._peers.values():
            await peer.channel.close()

    async def _look(self, peer: Peer) -> None:
        try:
            request = worker_pb2.DescribeWorkerRequest()
            peer.described = await peer.stub.DescribeWorker(request, timeout=DESCRIBE_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            problem = f"{error.code().name}: {error.details() or 'no answer'}"
            if not peer.problem or (peer.seen is None and peer.problem == "not asked yet"):
                log.warning("a worker does not answer; asking on", worker=peer.address, problem=problem)
            peer.problem = problem
            return
        if peer.problem:
            log.info("a worker answers", worker=peer.address, roles=list(peer.described.roles))
        peer.problem, peer.seen = "", self._clock()

    async def _recall(self) -> None:
        """What was told of agents before this lead started: no fact is told twice."""
        kinds = frozenset({"agent_created", "agent_status_changed", "agent_retired", "agent_resumed"})
        after, head = 0, (await self._journal.bounds()).head
        while after < head:
            page = await self._journal.entries(after, Filter(runs=frozenset({FLEET}), kinds=kinds))
            for entry in page.entries:
                self._head = entry.revision
                self._fold(events_pb2.Event.FromString(entry.record.body))
            after = page.through

    def _fold(self, event: events_pb2.Event) -> None:
        match event.WhichOneof("payload"):
            case "agent_created":
                self._told[event.agent_created.agent_id] = state_pb2.AGENT_STATE_UNSPECIFIED
            case "agent_status_changed":
                self._told[event.agent_status_changed.agent_id] = event.agent_status_changed.status
            case "agent_retired":
                self._told[event.agent_retired.agent_id] = state_pb2.AGENT_STATE_RETIRED
            case "agent_resumed":
                self._told[event.agent_resumed.agent_id] = state_pb2.AGENT_STATE_UNSPECIFIED

    async def _tell(self) -> None:
        now = self._clock()
        events: list[events_pb2.Event] = []
        for peer in self._peers.values():
            for role in peer.described.roles if peer.described else ():
                assert peer.described is not None
                agent = f"{peer.described.name}/{role}"
                for event in self._news(agent, role, peer.state(now)):
                    event.run_id = FLEET
                    event.event_time.CopyFrom(timestamp(now))
                    events.append(event)
        if not events:
            return
        records = [Record(event.WhichOneof("payload") or "", event.SerializeToString()) for event in events]
        try:
            appended = await self._journal.append(FLEET, records, expected_head=self._head, term=None)
        except HeadMoved as moved:
            self._head = moved.since[-1].revision
            for entry in moved.since:
                self._fold(events_pb2.Event.FromString(entry.record.body))
            return
        self._head = appended.last
        for event in events:
            self._fold(event)

    def _news(self, agent: str, role: str, state: State) -> list[events_pb2.Event]:
        told = self._told.get(agent)
        if told == state:
            return []
        news: list[events_pb2.Event] = []
        if told is None:
            created = events_pb2.AgentCreated(agent_id=agent, agent_type=role)
            news.append(events_pb2.Event(agent_created=created))
        elif told == state_pb2.AGENT_STATE_RETIRED:
            news.append(events_pb2.Event(agent_resumed=events_pb2.AgentResumed(agent_id=agent)))
        if state == state_pb2.AGENT_STATE_RETIRED:
            return [*news, events_pb2.Event(agent_retired=events_pb2.AgentRetired(agent_id=agent))]
        changed = events_pb2.AgentStatusChanged(agent_id=agent, status=state)
        return [*news, events_pb2.Event(agent_status_changed=changed)]
