"""A client with plain grpcio, as a service in a cluster writes one.

    python examples/sync_client.py HOST:PORT REPOSITORY [REQUEST_ID]

It needs `grpcio`, `grpcio-status` and the generated `codeframe.v1`, no more. Every call has a deadline; what
may be asked again is, by the rules in the protos' comments; a stream that drops goes on from its cursor. It
does and says the same as async_client.py.
"""

import hashlib
import json
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from codeframe.v1 import lead_pb2, lead_pb2_grpc, plan_pb2, state_pb2, status_pb2, status_pb2_grpc

_Request = TypeVar("_Request", contravariant=True)
_Response = TypeVar("_Response", covariant=True)

CHANNEL_OPTIONS = (
    # A peer that vanished is noticed, though a watch has nothing to say.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # What is asked again is decided below, and nowhere else.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Whatever its name says: how long a connection may take. A peer that is far or busy needs its time.
    ("grpc.min_reconnect_backoff_ms", 5_000),
)
_SNAPSHOT = {"ERROR_REASON_CURSOR_EXPIRED", "ERROR_REASON_LOG_CHANGED", "ERROR_REASON_CURSOR_AHEAD"}
_AGAIN = {"", "ERROR_REASON_UNAVAILABLE", "ERROR_REASON_CONTENTION"}
_INTERNAL = "ERROR_REASON_INTERNAL"


class Clock(Protocol):
    """Seconds, and how they pass. grpc_testing's clocks are such, too."""

    def time(self) -> float: ...

    def sleep_for(self, duration: float, /) -> None: ...


class SystemClock:
    """The time of this machine."""

    def time(self) -> float:
        return time.monotonic()

    def sleep_for(self, duration: float, /) -> None:
        time.sleep(duration)


class _Call(Protocol[_Request, _Response]):
    def __call__(self, request: _Request, *, timeout: float) -> _Response: ...


class Refused(Exception):
    """A call failed. `reason` is an ErrorReason's name; empty where it says nothing about the work."""

    def __init__(self, error: grpc.RpcError) -> None:
        # Every error that a call raises is a call itself; grpcio's types do not say so.
        call: grpc.Call = error  # type: ignore[assignment]
        super().__init__(f"{call.code().name}: {call.details()}")
        self.code = call.code()
        self.reason = ""
        self.fields: list[str] = []
        self.retry_after = 0.0
        try:
            status = rpc_status.from_call(call)
        except ValueError:
            # Its details are of another status: something on the way changed one of them.
            status = None
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        for detail in status.details if status else ():
            if detail.Unpack(info) and info.domain == "codeframe":
                self.reason = info.reason
            elif detail.Unpack(bad):
                self.fields = [violation.field for violation in bad.field_violations]
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()


@dataclass(frozen=True, slots=True)
class Dropped:
    """A watch's stream broke, `failures` times in a row by now; it goes on after `cursor`."""

    failures: int
    cursor: str | None


class Lead:
    """A lead, asked with deadlines.

    A call may take `call_timeout` seconds, and is asked again for at most `patience` in all; a
    stream, for that long after it broke. Methods raise Refused where asking again is no use, or
    patience is over.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        clock: Clock,
        *,
        call_timeout: float = 10.0,
        patience: float = 60.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._lead = lead_pb2_grpc.LeadServiceStub(channel)
        self._status = status_pb2_grpc.StatusServiceStub(channel)
        self._clock = clock
        self._call_timeout = call_timeout
        self._patience = patience
        self._chance = chance

    def create_run(self, request: lead_pb2.CreateRunRequest) -> lead_pb2.Run:
        """A run; under the same request_id always the same one, however often it is asked for."""
        return self._ask(self._lead.CreateRun, request).run

    def get_run(self, run_id: str) -> lead_pb2.Run:
        """A run, with its counts."""
        return self._ask(self._lead.GetRun, lead_pb2.GetRunRequest(run_id=run_id)).run

    def attempts(self, run_id: str, task_id: str) -> Iterator[lead_pb2.Attempt]:
        """A task's attempts, oldest first, page by page."""
        request = lead_pb2.ListAttemptsRequest(run_id=run_id, task_id=task_id)
        while True:
            page = self._ask(self._lead.ListAttempts, request)
            yield from page.attempts
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def artifact(self, attempt_id: str, name: str) -> Iterator[bytes]:
        """An artifact's bytes, in chunks; what drops goes on from the offset that was reached."""
        offset, failures, until = 0, 0, 0.0
        while True:
            request = lead_pb2.ReadArtifactRequest(attempt_id=attempt_id, name=name, offset=offset)
            try:
                for part in self._lead.ReadArtifact(request, timeout=self._call_timeout):
                    offset += len(part.data)
                    yield part.data
                    failures = 0
                return
            except grpc.RpcError as error:
                until = until if failures else self._clock.time() + self._patience
                failures += 1
                self._clock.sleep_for(self._delay(Refused(error), failures, until))

    def watch(
        self, run_id: str, cursor: str | None = ""
    ) -> Iterator[status_pb2.WatchEventsResponse | Dropped]:
        """What happens to a run, to its end: after a cursor ("": from the oldest event).

        Where the cursor leads nowhere any more, rows of a snapshot come first: forget what you
        hold, and drop events whose revision is not above their row's.
        """
        failures, until = 0, 0.0
        while True:
            request = status_pb2.WatchEventsRequest(run_ids=[run_id])
            if cursor is None:
                request.snapshot.SetInParent()
            else:
                request.cursor = cursor
            # It may be silent for days, so it has no deadline: keepalive notices that the peer is gone.
            call = self._status.WatchEvents(request)
            try:
                for response in call:
                    cursor = _last_cursor(response) or cursor
                    failures = 0
                    yield response
                return
            except grpc.RpcError as error:
                refused = Refused(error)
            finally:
                call.cancel()
            if cursor is not None and refused.reason in _SNAPSHOT:
                cursor = None
                continue
            until = until if failures else self._clock.time() + self._patience
            failures += 1
            delay = self._delay(refused, failures, until)
            yield Dropped(failures, cursor)
            self._clock.sleep_for(delay)

    def _ask(self, call: _Call[_Request, _Response], request: _Request) -> _Response:
        failures, until = 0, self._clock.time() + self._patience
        while True:
            try:
                return call(request, timeout=min(self._call_timeout, until - self._clock.time()))
            except grpc.RpcError as error:
                failures += 1
                self._clock.sleep_for(self._delay(Refused(error), failures, until))

    def _delay(self, refused: Refused, failures: int, until: float) -> float:
        """Seconds after which the call may be repeated. Raises the refusal where it may not be in time."""
        if refused.reason not in _AGAIN and (refused.reason != _INTERNAL or failures >= 3):
            raise refused
        backoff = min(5.0, 0.1 * 2.0 ** (failures - 1)) * (1 - self._chance() / 2)
        delay = max(backoff, refused.retry_after)
        if self._clock.time() + delay >= until:
            raise refused
        return delay


def _last_cursor(response: status_pb2.WatchEventsResponse) -> str:
    """The cursor of a reader that has read a response; empty inside a snapshot."""
    if response.events and (response.bookmark.snapshot_end or not response.HasField("bookmark")):
        return response.events[-1].cursor
    return response.bookmark.cursor


# ---- what this program does with it


def say(**line: object) -> None:
    """A line of JSON."""
    print(json.dumps(line), flush=True)


def task(task_id: str, *depends_on: str) -> plan_pb2.PlannedTask:
    return plan_pb2.PlannedTask(id=task_id, title=f"Do {task_id}", role="backend", depends_on=depends_on)


def refused(call: Callable[[], object]) -> None:
    """Say why a call is refused."""
    try:
        call()
    except Refused as error:
        say(error={"code": error.code.name, "reason": error.reason, "fields": error.fields})


def follow(lead: Lead, run_id: str) -> None:
    """Say a run's events, from the first to the last."""
    for item in lead.watch(run_id):
        match item:
            case Dropped(failures=1, cursor=cursor):
                say(dropped={"cursor": cursor})
            case status_pb2.WatchEventsResponse():
                for event in item.events:
                    say(event=MessageToDict(event, preserving_proto_field_name=True))


def fetch_diff(lead: Lead, run_id: str) -> None:
    """Read the diff of the first attempt of task a, and hold it against its digest."""
    attempt = next(lead.attempts(run_id, "a"))
    listed = {each.name: each for each in attempt.result.artifacts}
    data = b"".join(lead.artifact(attempt.attempt_id, "diff"))
    digest = hashlib.sha256(data).hexdigest()
    if digest != listed["diff"].sha256:
        raise SystemExit("the diff is not the one that is listed")
    say(artifact={"attempt_id": attempt.attempt_id, "name": "diff", "size": len(data), "sha256": digest})


def main(address: str, repository: str, request_id: str) -> bool:
    """Whether the plan completed."""
    plan = plan_pb2.Plan(title="A plan", tasks=[task("a"), task("b", "a"), task("c", "b")])
    wrong = plan_pb2.Plan(title="A plan", tasks=[task("a", "nothing"), task("b", "b")])
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        lead = Lead(channel, SystemClock())
        request = lead_pb2.CreateRunRequest(request_id=request_id, repository=repository, plan=plan)
        mistaken = lead_pb2.CreateRunRequest(request_id=request_id, repository=repository, plan=wrong)
        refused(lambda: lead.get_run("no-such-run"))
        refused(lambda: lead.create_run(mistaken))
        run = lead.create_run(request)
        say(created={"run_id": run.run_id, "request_id": run.request_id})
        follow(lead, run.run_id)
        ended = lead.get_run(run.run_id)
        state = state_pb2.RunState.Name(ended.state)
        say(ended={"state": state, "completed": ended.counts.completed, "head_commit": ended.head_commit})
        if ended.state != state_pb2.RUN_STATE_COMPLETED:
            return False
        fetch_diff(lead, run.run_id)
        return True


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    kept = sys.argv[3] if len(sys.argv) == 4 else uuid.uuid4().hex
    sys.exit(0 if main(sys.argv[1], sys.argv[2], kept) else 1)
