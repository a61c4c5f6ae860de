"""One worker, as the lead sees it: who answers at its address, and which of its slots are free."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

import grpc.aio

from codeframe.model_family import model_family
from codeframe.v1 import lead_pb2, state_pb2, worker_pb2, worker_pb2_grpc
from services.lead.public import timestamp
from services.lead.throttles import Provider

RETIRED_AFTER = timedelta(seconds=60)
SHORTEST_REFUSAL, LONGEST_REFUSAL = 1.0, 30.0
NOT_ASKED = "not asked yet"


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt that a worker was given. `model` is what it asks, empty for the worker's own; None: none."""

    role: str
    model: str | None


State: TypeAlias = "state_pb2.AgentState.ValueType"


@dataclass(slots=True)
class Peer:
    """A worker's address, and what is known of who answers there.

    `held` are the attempts that this lead gave it. Monotonic times are in seconds.
    """

    address: str
    channel: grpc.aio.Channel
    described: worker_pb2.DescribeWorkerResponse | None = None
    seen: datetime | None = None
    problem: str = NOT_ASKED
    held: dict[str, Held] = field(default_factory=dict)
    worked: set[str] = field(default_factory=set)
    full: bool = False
    refusals: int = 0
    refused_until: float = 0.0

    @property
    def stub(self) -> "worker_pb2_grpc.WorkerServiceAsyncStub":
        """The calls to it."""
        return worker_pb2_grpc.WorkerServiceStub(self.channel)

    @property
    def roles(self) -> Iterable[str]:
        """The roles that it serves; none while it does not answer, or lacks what they need."""
        return () if self.problem or not self.described or self.described.problem else self.described.roles

    @property
    def lacks(self) -> str:
        """What it says that it lacks for its roles, with its name; empty where it lacks nothing."""
        if self.problem or not self.described or not self.described.problem:
            return ""
        return f"{self.described.name} at {self.address}: {self.described.problem}"

    def free(self, now: float) -> int:
        """Slots that neither it nor this lead knows to be taken."""
        if not self.described or self.problem or self.described.draining or now < self.refused_until:
            return 0
        return self.described.slots - len(self.held.keys() | set(self.described.in_flight))

    def provider(self, model: str | None) -> Provider | None:
        """Whom it asks for a model, empty for its own; None where that is none, or not known."""
        if model is None or not self.described or not self.described.key_fingerprint:
            return None
        return Provider(self.described.key_fingerprint, model_family(model or self.described.model))

    def state(self, role: str, now: datetime, *, throttled: bool = False) -> State:
        """The state of its agent for a role. `throttled` says that the provider of its own model is."""
        if self.seen and now - self.seen > RETIRED_AFTER:
            return state_pb2.AGENT_STATE_RETIRED
        if self.problem or not self.described:
            return state_pb2.AGENT_STATE_UNREACHABLE
        if self.described.draining:
            return state_pb2.AGENT_STATE_DRAINING
        if throttled:
            return state_pb2.AGENT_STATE_THROTTLED
        working = any(each.role == role for each in self.held.values())
        return state_pb2.AGENT_STATE_WORKING if working else state_pb2.AGENT_STATE_IDLE

    def hold(self, attempt_id: str, held: Held) -> None:
        """One slot more is taken."""
        self.held[attempt_id] = held
        self.worked.add(held.role)

    def answered(self, described: worker_pb2.DescribeWorkerResponse, now: datetime) -> None:
        """It said what it is. Where it was full and is no more, it is asked again at once."""
        full = len(described.in_flight) >= described.slots
        if self.full and not full:
            self.refused_until = 0.0
        self.described, self.seen, self.problem, self.full = described, now, "", full

    def refused(self, now: float) -> None:
        """It did not take an attempt: it is asked again after a pause, which doubles up to 30 s."""
        self.refused_until = now + min(SHORTEST_REFUSAL * 2.0**self.refusals, LONGEST_REFUSAL)
        self.refusals = min(self.refusals + 1, 10)

    def to_proto(self, now: datetime, *, throttled: bool = False) -> lead_pb2.Worker:
        """It, as the API shows it: its state is that of the agent that has most to do."""
        worker = lead_pb2.Worker(address=self.address, problem=self.problem)
        worker.state = state_pb2.AGENT_STATE_UNREACHABLE
        if self.described:
            told = self.described
            worker.name, worker.slots, worker.in_flight = told.name, told.slots, len(told.in_flight)
            worker.roles.extend(told.roles)
            worker.sandbox_mode, worker.model = told.sandbox_mode, told.model
            worker.version, worker.incarnation = told.version, told.incarnation
            worker.key_fingerprint = told.key_fingerprint
            worker.problem = self.problem or told.problem
            role = next((each.role for each in self.held.values()), "")
            worker.state = self.state(role, now, throttled=throttled)
        if self.seen:
            worker.seen_time.CopyFrom(timestamp(self.seen))
        return worker
