"""A worker's attempts by id: started, joined, watched, ended, released. They belong to the server."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Protocol

import structlog

from services.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)
from services.workers.broadcast import Broadcast
from services.workers.clock import Clock
from services.workers.halt import Halt
from services.workers.notices import Batch, NoticeLog
from services.workers.outcome import Outcome
from services.workers.work import Artifact, AttemptRequest, PlanWork, TaskResult, TaskWork, VerifyWork

log = structlog.get_logger()

RETENTION = timedelta(hours=24)
RETRY_AFTER = timedelta(seconds=1)
UNRELEASED_TOLD = 100


@dataclass(frozen=True, slots=True)
class Capability:
    """What a worker can do. A problem is why it cannot, with what to do next; empty where it can.

    `planners` are those of its roles that make plans.
    """

    roles: tuple[str, ...]
    slots: int
    sandbox_mode: str
    sandbox_problem: str = ""
    model_problem: str = ""
    planners: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept of attempts that have ended, and for how long. `unreleased` is in bytes."""

    age: timedelta = RETENTION
    records: int = 10_000
    unreleased: int = 256 << 20


class Perform(Protocol):
    """Does an attempt."""

    async def __call__(self, request: AttemptRequest, broadcast: Broadcast, halt: Halt) -> TaskResult:
        """Return the attempt's one result, less `last_sequence`, once every process of it is dead.

        Raises nothing but CancelledError, which kills its processes and leaves no result.
        """
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """An attempt's notices, and whose they are. `task_id` is empty where no task is done."""

    role: str
    task_id: str
    batches: AsyncIterator[Batch]


@dataclass(slots=True)
class _Attempt:
    """An attempt that started. `callers` are the ExecuteTask calls that wait for it."""

    digest: bytes
    role: str
    task_id: str
    orphan_grace: float
    notices: NoticeLog
    halt: Halt = field(default_factory=Halt)
    callers: int = 0
    orphaned: asyncio.TimerHandle | None = None
    result: TaskResult | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    released: bool = False

    @property
    def weight(self) -> int:
        """Bytes that are kept until the attempt is released."""
        if self.released:
            return 0
        artifacts = self.result.artifacts or {} if self.result else {}
        return self.notices.size + sum(len(artifact.data) for artifact in artifacts.values())


class Attempts:
    """The attempts of one worker process. Each is a task of `group`, which must outlive every call."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        perform: Perform,
        capability: Capability,
        clock: Clock,
        incarnation: str,
        retention: Retention | None = None,
    ) -> None:
        self.capability = capability
        self.incarnation = incarnation
        self.draining = False
        self._group = group
        self._perform = perform
        self._clock = clock
        self._retention = retention or Retention()
        self._known: dict[str, _Attempt] = {}  # ended ones in the order in which they ended
        self._held = 0  # bytes of these
        self._running: dict[str, _Attempt] = {}
        self._cancelled: dict[str, datetime] = {}  # before they started
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> tuple[str, ...]:
        """Ids of the attempts that run."""
        return tuple(self._running)

    @property
    def unreleased(self) -> tuple[str, ...]:
        """Ids of attempts that have ended and were not released, oldest first, as far as they are told."""
        held = (name for name, attempt in self._known.items() if not attempt.released)
        return tuple(islice(held, UNRELEASED_TOLD))

    async def execute(self, request: AttemptRequest, incarnation: str, digest: bytes) -> TaskResult:
        """Start an attempt, join it where it runs, or return its result where it has ended.

        `digest` tells whether two requests are the same. Cancelled, it leaves the attempt alone. Raises
        ServiceError where the attempt is another's, or was not started.
        """
        self._check(incarnation)
        attempt = self._running.get(request.attempt_id) or self._known.get(request.attempt_id)
        if attempt is None:
            attempt = self._start(request, digest)
        elif attempt.digest != digest:
            raise AlreadyExists("ATTEMPT_ID_REUSED", f"attempt {request.attempt_id} has another request")
        self._join(attempt)
        try:
            await attempt.ended.wait()
        finally:
            self._leave(attempt)
        assert attempt.result is not None
        return attempt.result

    def watch(self, attempt_id: str, incarnation: str, after: int) -> Watched:
        """An attempt's notices after a sequence, to its end, with heartbeats. Raises ServiceError."""
        self._check(incarnation)
        attempt = self._running.get(attempt_id) or self._known.get(attempt_id)
        if attempt is None:
            raise NotFound("ATTEMPT_NOT_FOUND", f"attempt {attempt_id} is not known here")
        if attempt.released and attempt.result is not None:
            raise FailedPrecondition("ATTEMPT_RELEASED", f"attempt {attempt_id} was released, with its log")
        return Watched(attempt.role, attempt.task_id, attempt.notices.follow(after))

    async def cancel(self, attempt_id: str, incarnation: str, outcome: Outcome) -> TaskResult | None:
        """Have an attempt end so, and return its result, once it has; None, and remembered, if not known.

        Raises ServiceError.
        """
        self._check(incarnation)
        if attempt := self._running.get(attempt_id):
            attempt.halt.ask(outcome, "stalled" if outcome is Outcome.TIMED_OUT else "cancelled on request")
            await attempt.ended.wait()
        else:
            attempt = self._known.get(attempt_id)
        if attempt is None:
            self._forget()
            self._cancelled[attempt_id] = self._clock.now()
            return None
        return attempt.result

    def artifact(self, attempt_id: str, name: str) -> Artifact:
        """An artifact, with its bytes. Raises ServiceError."""
        attempt = self._known.get(attempt_id)
        if attempt is None:
            raise NotFound("ATTEMPT_NOT_FOUND", f"attempt {attempt_id} has not ended here, or is not known")
        if attempt.released:
            raise FailedPrecondition("ATTEMPT_RELEASED", f"attempt {attempt_id} was released, with its bytes")
        artifacts = attempt.result.artifacts or {} if attempt.result else {}
        if name not in artifacts:
            have = ", ".join(artifacts) or "none"
            raise NotFound(
                "ARTIFACT_NOT_FOUND", f"attempt {attempt_id} has no artifact {name!r}, but: {have}"
            )
        return artifacts[name]

    def release(self, attempt_id: str) -> None:
        """The caller holds everything: keep digest and result only; of a running attempt, once it ends."""
        if attempt := self._running.get(attempt_id):
            attempt.released = True
        elif attempt := self._known.get(attempt_id):
            self._strip(attempt)

    async def drain(self, hastened: asyncio.Event) -> None:
        """Take no new attempts; wait for those that run, and once hastened, interrupt them.

        Returns once every attempt has ended.
        """
        self.draining = True
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(event.wait()) for event in (self._idle, hastened)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        for attempt in self._running.values():
            attempt.halt.ask(Outcome.INTERRUPTED, "the worker was stopping")
        await self._idle.wait()

    def _check(self, incarnation: str) -> None:
        if incarnation != self.incarnation:
            message = f"this worker is incarnation {self.incarnation}; what {incarnation} had is lost"
            raise FailedPrecondition("WORKER_RESTARTED", message)

    def _start(self, request: AttemptRequest, digest: bytes) -> _Attempt:
        self._forget()
        task = request.work.task_id if isinstance(request.work, TaskWork) else ""
        grace = request.limits.orphan_grace.total_seconds()
        attempt = _Attempt(digest, request.role, task, grace, NoticeLog(self._clock))
        if self._cancelled.pop(request.attempt_id, None):
            now = self._clock.now()
            message = "cancelled before it started"
            self._end(attempt, TaskResult(request.attempt_id, Outcome.CANCELLED, message, 0, now, now))
            return attempt
        if refusal := self._refusal(request):
            raise refusal
        self._running[request.attempt_id] = attempt
        self._idle.clear()
        self._group.create_task(self._run(attempt, request), name=f"attempt {request.attempt_id}")
        return attempt

    def _refusal(self, request: AttemptRequest) -> ServiceError | None:
        """Why an attempt is not admitted; the order is from what never helps to what waiting cures."""
        can = self.capability
        if request.role not in can.roles:
            message = f"this worker serves {', '.join(can.roles)}, not {request.role}"
            return FailedPrecondition("UNKNOWN_ROLE", message)
        if (request.role in can.planners) != isinstance(request.work, PlanWork):
            does = "makes plans, and does no task" if request.role in can.planners else "makes no plans"
            return InvalidArgument("INVALID_REQUEST", f"the role {request.role} {does}")
        if can.sandbox_problem:
            return FailedPrecondition("NO_SANDBOX", can.sandbox_problem)
        if can.model_problem and not isinstance(request.work, VerifyWork):
            return FailedPrecondition("NO_MODEL_KEY", can.model_problem)
        if self.draining:
            return Unavailable("DRAINING", "this worker is stopping", retry_after=RETRY_AFTER)
        if len(self._running) >= can.slots:
            message = f"all {can.slots} slots are taken"
            return ResourceExhausted("NO_FREE_SLOT", message, retry_after=RETRY_AFTER)
        if self._held >= self._retention.unreleased:
            message = "attempts that ended hold too much until they are released"
            return ResourceExhausted("NO_FREE_SLOT", message, retry_after=RETRY_AFTER)
        return None

    async def _run(self, attempt: _Attempt, request: AttemptRequest) -> None:
        names = {"run": request.run_id, "task": attempt.task_id, "attempt": request.attempt_id}
        with structlog.contextvars.bound_contextvars(**names):
            log.info("attempt started", role=request.role)
            try:
                result = await self._perform(request, attempt.notices.append, attempt.halt)
                log.info("attempt ended", outcome=result.outcome.value, message=result.message)
                self._end(attempt, result)
            finally:
                self._running.pop(request.attempt_id)
                if not self._running:
                    self._idle.set()

    def _end(self, attempt: _Attempt, result: TaskResult) -> None:
        if attempt.orphaned is not None:
            attempt.orphaned.cancel()
        attempt.result = replace(result, last_sequence=attempt.notices.last_sequence)
        attempt.notices.close()
        self._known[result.attempt_id] = attempt
        self._held += attempt.weight
        if attempt.released:
            self._strip(attempt)
        attempt.ended.set()

    def _join(self, attempt: _Attempt) -> None:
        attempt.callers += 1
        if attempt.orphaned is not None:
            attempt.orphaned.cancel()
            attempt.orphaned = None

    def _leave(self, attempt: _Attempt) -> None:
        attempt.callers -= 1
        if attempt.callers == 0 and attempt.result is None:
            grace, loop = attempt.orphan_grace, asyncio.get_running_loop()
            message = f"nobody asked for it for {grace:g} s"
            attempt.orphaned = loop.call_later(grace, attempt.halt.ask, Outcome.ORPHANED, message)

    def _strip(self, attempt: _Attempt) -> None:
        self._held -= attempt.weight
        attempt.released = True
        attempt.notices = NoticeLog(self._clock)
        attempt.notices.close()
        assert attempt.result is not None
        if attempt.result.artifacts:
            attempt.result = replace(attempt.result, artifacts=_emptied(attempt.result.artifacts))

    def _forget(self) -> None:
        """Drop what is too old, and the oldest of what is too much."""
        oldest = self._clock.now() - self._retention.age
        ended = ((name, each.result.end_time) for name, each in self._known.items() if each.result)
        for name in _expired(ended, oldest, len(self._known) + 1 - self._retention.records):
            self._held -= self._known.pop(name).weight
        surplus = len(self._cancelled) + 1 - self._retention.records
        for name in _expired(self._cancelled.items(), oldest, surplus):
            del self._cancelled[name]


def _emptied(artifacts: Mapping[str, Artifact]) -> Mapping[str, Artifact]:
    return {name: replace(artifact, data=b"") for name, artifact in artifacts.items()}


def _expired(times: Iterable[tuple[str, datetime]], oldest: datetime, surplus: int) -> list[str]:
    """Which to drop: the first so many, and the old ones that follow. `times` are in order."""
    expired = takewhile(lambda each: each[0] < surplus or each[1][1] < oldest, enumerate(times))
    return [name for _, (name, _) in expired]
