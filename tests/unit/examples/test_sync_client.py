"""The plain grpcio client: its deadlines, what it asks again and when, and how it goes on. No time passes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from codeframe.v1 import lead_pb2
from codeframe.v1.status_pb2 import DESCRIPTOR as STATUS
from codeframe.v1.status_pb2 import Bookmark, JournaledEvent, WatchEventsResponse
from examples.sync_client import Dropped, Lead, Refused

LEAD_SERVICE = lead_pb2.DESCRIPTOR.services_by_name["LeadService"]
STATUS_SERVICE = STATUS.services_by_name["StatusService"]
# A client that ends too early leaves the test waiting for its next call.
pytestmark = pytest.mark.timeout(30)

CREATE_RUN = LEAD_SERVICE.methods_by_name["CreateRun"]
READ_ARTIFACT = LEAD_SERVICE.methods_by_name["ReadArtifact"]
WATCH_EVENTS = STATUS_SERVICE.methods_by_name["WatchEvents"]
REQUEST = lead_pb2.CreateRunRequest(request_id="kept", repository="/srv/shop")


class NotingChannel:
    """A fake channel, which itself forgets what deadline a call has."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.unary_stream = channel.unary_stream
        self.timeouts: list[float] = []

    def unary_unary(self, *arguments: Any, **more: Any) -> Callable[..., Any]:
        call = self._channel.unary_unary(*arguments, **more)

        def noted(request: Message, *, timeout: float) -> Any:
            self.timeouts.append(timeout)
            return call(request, timeout=timeout)

        return noted


class Outcome(list[Any]):
    """What the client got, item by item; last, what it raised."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def add(self, item: Any) -> None:
        with self._changed:
            self.append(item)
            self._changed.notify_all()

    def until(self, count: int) -> None:
        """Return once it got so many: a broken stream forgets what nobody has read of it."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self) >= count, timeout=30)


class Stage:
    """A client on a fake channel and clock; what it does runs on a thread, so that the test can answer."""

    def __init__(self) -> None:
        self.clock = grpc_testing.strict_fake_time(1000.0)
        self.channel = grpc_testing.channel([LEAD_SERVICE, STATUS_SERVICE], self.clock)
        noting: Any = NotingChannel(self.channel)
        self.timeouts: list[float] = noting.timeouts
        self.lead = Lead(noting, self.clock, call_timeout=10.0, patience=60.0, chance=lambda: 0.0)

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return float(self.clock.time()) - 1000.0

    @contextmanager
    def asking(self, work: Callable[[], Any]) -> Iterator["Outcome"]:
        """Have the client do it meanwhile."""
        with self.reading(lambda: iter([work()])) as outcome:
            yield outcome

    @contextmanager
    def reading(self, work: Callable[[], Iterator[Any]]) -> Iterator["Outcome"]:
        """Have the client read a stream meanwhile."""
        outcome = Outcome()

        def do() -> None:
            try:
                for item in work():
                    outcome.add(item)
            except Exception as error:
                outcome.add(error)

        thread = threading.Thread(target=do, daemon=True)
        thread.start()
        yield outcome
        thread.join(timeout=30)
        assert not thread.is_alive()

    def answer(self, response: lead_pb2.CreateRunResponse) -> lead_pb2.CreateRunRequest:
        _, request, call = self.channel.take_unary_unary(CREATE_RUN)
        call.terminate(response, (), grpc.StatusCode.OK, "")
        assert isinstance(request, lead_pb2.CreateRunRequest)
        return request

    def refuse(self, code: grpc.StatusCode, *details: Message, after: float = 0.0) -> None:
        """Answer the next CreateRun with a status, after some seconds."""
        _, _, call = self.channel.take_unary_unary(CREATE_RUN)
        self.clock.sleep_for(after)
        call.terminate(None, trailers(code, *details), code, "no")

    def stream(self, method: Any) -> tuple[Any, Any]:
        _, request, call = self.channel.take_unary_stream(method)
        call.send_initial_metadata(())
        return request, call


@pytest.fixture
def stage() -> Stage:
    return Stage()


def trailers(code: grpc.StatusCode, *details: Message) -> tuple[tuple[str, bytes], ...]:
    """What carries the details of an error."""
    if not details:
        return ()
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message="no")
    for detail in details:
        status.details.add().Pack(detail)
    answer = rpc_status.to_status(status)
    return tuple(answer.trailing_metadata)


def info(reason: str) -> Message:
    told: Message = error_details_pb2.ErrorInfo(reason=f"ERROR_REASON_{reason}", domain="codeframe")
    return told


def event(revision: int) -> JournaledEvent:
    return JournaledEvent(revision=revision, cursor=f"log.{revision}")


def test_a_call_that_says_nothing_of_the_work_is_asked_again_byte_for_byte(stage: Stage) -> None:
    with stage.asking(lambda: stage.lead.create_run(REQUEST)) as outcome:
        stage.refuse(grpc.StatusCode.UNAVAILABLE)
        stage.refuse(grpc.StatusCode.DEADLINE_EXCEEDED, after=10.0)
        stage.refuse(grpc.StatusCode.UNAVAILABLE, info("UNAVAILABLE"))
        assert stage.answer(lead_pb2.CreateRunResponse(run=lead_pb2.Run(run_id="r"))) == REQUEST
    assert outcome[0].run_id == "r"
    assert stage.passed == pytest.approx(10.0 + 0.1 + 0.2 + 0.4), "backoff doubles"
    assert stage.timeouts == [10.0] * 4


def test_no_call_may_outlast_patience(stage: Stage) -> None:
    with stage.asking(lambda: stage.lead.create_run(REQUEST)) as outcome:
        for _ in range(5):
            stage.refuse(grpc.StatusCode.DEADLINE_EXCEEDED, after=10.0)
        stage.refuse(grpc.StatusCode.DEADLINE_EXCEEDED, after=6.9)
    (error,) = outcome
    assert isinstance(error, Refused)
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stage.timeouts[:5] == [10.0] * 5
    assert stage.timeouts[5] == pytest.approx(60 - 5 * 10 - 0.1 - 0.2 - 0.4 - 0.8 - 1.6)
    assert stage.passed == pytest.approx(60)


def test_what_must_be_mended_is_not_asked_again(stage: Stage) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="plan.tasks[0].id", description="is empty")
    with stage.asking(lambda: stage.lead.create_run(REQUEST)) as outcome:
        stage.refuse(grpc.StatusCode.INVALID_ARGUMENT, info("INVALID_PLAN"), bad)
    assert outcome[0].reason == "ERROR_REASON_INVALID_PLAN"
    assert outcome[0].fields == ["plan.tasks[0].id"]
    assert stage.passed == 0


def test_a_fault_of_the_servers_own_is_asked_about_three_times(stage: Stage) -> None:
    with stage.asking(lambda: stage.lead.create_run(REQUEST)) as outcome:
        for _ in range(3):
            stage.refuse(grpc.StatusCode.INTERNAL, info("INTERNAL"))
    assert outcome[0].reason == "ERROR_REASON_INTERNAL"


def test_retry_info_is_obeyed_while_patience_lasts(stage: Stage) -> None:
    def wait(seconds: int) -> Message:
        retry: Any = error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = seconds
        told: Message = retry
        return told

    with stage.asking(lambda: stage.lead.create_run(REQUEST)) as outcome:
        stage.refuse(grpc.StatusCode.ABORTED, info("CONTENTION"), wait(7))
        stage.refuse(grpc.StatusCode.ABORTED, info("CONTENTION"), wait(3600))
    assert outcome[0].reason == "ERROR_REASON_CONTENTION"
    assert stage.passed == 7


def test_anothers_error_info_is_not_ours(stage: Stage) -> None:
    proxys = error_details_pb2.ErrorInfo(reason="OVERLOADED", domain="proxy.example.org")
    with stage.asking(lambda: stage.lead.create_run(REQUEST)) as outcome:
        stage.refuse(grpc.StatusCode.PERMISSION_DENIED, proxys)
        stage.answer(lead_pb2.CreateRunResponse(run=lead_pb2.Run(run_id="r")))
    assert outcome[0].run_id == "r"


def test_a_watch_goes_on_from_its_cursor(stage: Stage) -> None:
    with stage.reading(lambda: stage.lead.watch("r")) as outcome:
        request, call = stage.stream(WATCH_EVENTS)
        assert (request.run_ids, request.cursor) == (["r"], "")
        call.send_response(WatchEventsResponse(events=[event(1), event(2)]))
        outcome.until(1)
        stage.clock.sleep_for(3600)  # nothing to tell for an hour is no failure
        call.terminate((), grpc.StatusCode.UNAVAILABLE, "cut")
        request, call = stage.stream(WATCH_EVENTS)
        assert request.cursor == "log.2"
        call.send_response(WatchEventsResponse(bookmark=Bookmark(revision=9, cursor="log.9")))
        outcome.until(3)
        call.terminate((), grpc.StatusCode.UNKNOWN, "cut")
        request, call = stage.stream(WATCH_EVENTS)
        assert request.cursor == "log.9"
        call.terminate((), grpc.StatusCode.OK, "")
    assert [item for item in outcome if isinstance(item, Dropped)] == [
        Dropped(1, "log.2"),
        Dropped(1, "log.9"),
    ]


def test_a_watch_whose_cursor_is_gone_starts_from_a_snapshot(stage: Stage) -> None:
    with stage.reading(lambda: stage.lead.watch("r", "log.1")) as outcome:
        _, call = stage.stream(WATCH_EVENTS)
        code = grpc.StatusCode.OUT_OF_RANGE
        call.terminate(trailers(code, info("CURSOR_EXPIRED")), code, "no")
        request, call = stage.stream(WATCH_EVENTS)
        assert request.WhichOneof("start") == "snapshot"
        # It breaks among the rows: they have no place of their own.
        call.send_response(WatchEventsResponse(runs=[lead_pb2.Run(run_id="r")]))
        outcome.until(1)
        call.terminate((), grpc.StatusCode.UNAVAILABLE, "cut")
        request, call = stage.stream(WATCH_EVENTS)
        assert request.WhichOneof("start") == "snapshot"
        end = Bookmark(revision=7, cursor="log.7", snapshot_end=True)
        call.send_response(WatchEventsResponse(bookmark=end))
        outcome.until(3)
        call.terminate((), grpc.StatusCode.UNAVAILABLE, "cut")
        request, call = stage.stream(WATCH_EVENTS)
        assert request.cursor == "log.7"
        call.terminate((), grpc.StatusCode.OK, "")
    assert [item for item in outcome if isinstance(item, Dropped)] == [
        Dropped(1, None),
        Dropped(1, "log.7"),
    ]


def test_a_watch_of_a_run_that_is_not_is_refused(stage: Stage) -> None:
    with stage.reading(lambda: stage.lead.watch("r")) as outcome:
        _, call = stage.stream(WATCH_EVENTS)
        code = grpc.StatusCode.NOT_FOUND
        call.terminate(trailers(code, info("RUN_NOT_FOUND")), code, "no")
    assert outcome[0].reason == "ERROR_REASON_RUN_NOT_FOUND"


def test_an_artifact_goes_on_from_its_offset(stage: Stage) -> None:
    with stage.reading(lambda: stage.lead.artifact("r.a.1", "log")) as outcome:
        request, call = stage.stream(READ_ARTIFACT)
        assert request.offset == 0
        call.send_response(lead_pb2.ReadArtifactResponse(data=b"first "))
        outcome.until(1)
        call.terminate((), grpc.StatusCode.UNAVAILABLE, "cut")
        request, call = stage.stream(READ_ARTIFACT)
        assert request.offset == len(b"first ")
        call.send_response(lead_pb2.ReadArtifactResponse(data=b"second"))
        call.terminate((), grpc.StatusCode.OK, "")
    assert outcome == [b"first ", b"second"]
