"""Attempts behind a real server: started, joined, watched, ended, released, whatever their callers do."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from codeframe.errors import from_rpc_error
from codeframe.v1 import evidence_pb2, worker_pb2, worker_pb2_grpc
from services.runtime.channel import open_channel
from services.runtime.server import Server
from services.runtime.settings import ServerSettings
from services.workers.attempts import Attempts, Capability, Retention
from services.workers.broadcast import Activity, Broadcast, Correction, CorrectionStatus
from services.workers.clock import SystemClock
from services.workers.halt import Halt
from services.workers.notices import NoticeLog
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.servicer import Identity, WorkerServicer
from services.workers.work import Artifact, AttemptRequest, TaskResult

COMMIT = "a" * 40
INCARNATION = "this-process"


@dataclass(slots=True)
class Work:
    """Attempts whose every step the test orders."""

    notices: int = 3
    artifact: bytes = b""
    started: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)

    async def __call__(self, request: AttemptRequest, broadcast: Broadcast, halt: Halt) -> TaskResult:
        start, outcome, message = datetime.now(UTC), Outcome.SUCCEEDED, ""
        try:
            async with halt.within(request.limits.attempt_timeout.total_seconds()):
                for number in range(self.notices):
                    await broadcast(Activity("tool", f"step {number + 1}"))
                self.started.put_nowait(request.attempt_id)
                await self.go.wait()
                await broadcast(Activity("tool", "last"))
        except AttemptFailed as failure:
            outcome, message = failure.outcome, failure.message
        self.ended.append(request.attempt_id)
        log = Artifact("log", "text/plain", len(self.artifact), "f" * 64, data=self.artifact)
        now = datetime.now(UTC)
        return TaskResult(request.attempt_id, outcome, message, 0, start, now, artifacts={"log": log})


@dataclass(slots=True)
class LateClock(SystemClock):
    """The machine's clock, set forward by a test."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(slots=True)
class Worker:
    """A worker's server, and a client of it."""

    attempts: Attempts
    work: Work
    clock: LateClock
    stub: "worker_pb2_grpc.WorkerServiceAsyncStub"
    address: str

    def execute(self, attempt_id: str = "one", **changes: Any) -> Any:
        return self.stub.ExecuteTask(request(attempt_id, **changes))

    async def result(self, attempt_id: str = "one") -> evidence_pb2.TaskResult:
        response: worker_pb2.ExecuteTaskResponse = await self.execute(attempt_id)
        return response.result

    def watch(self, attempt_id: str = "one", after: int = 0, incarnation: str = INCARNATION) -> Any:
        watch = worker_pb2.WatchAttemptRequest(
            attempt_id=attempt_id, incarnation=incarnation, after_sequence=after
        )
        return self.stub.WatchAttempt(watch)

    def cancel(
        self, attempt_id: str = "one", reason: str = "CANCELLED", incarnation: str = INCARNATION
    ) -> Any:
        value = worker_pb2.CancelReason.Value(f"CANCEL_REASON_{reason}")
        return self.stub.CancelAttempt(
            worker_pb2.CancelAttemptRequest(attempt_id=attempt_id, incarnation=incarnation, reason=value)
        )

    def read(self, attempt_id: str = "one", name: str = "log", offset: int = 0) -> Any:
        return self.stub.ReadArtifact(
            worker_pb2.WorkerServiceReadArtifactRequest(attempt_id=attempt_id, name=name, offset=offset)
        )

    async def release(self, attempt_id: str = "one") -> None:
        await self.stub.ReleaseAttempt(worker_pb2.ReleaseAttemptRequest(attempt_id=attempt_id))


def request(
    attempt_id: str = "one",
    *,
    incarnation: str = INCARNATION,
    role: str = "backend",
    title: str = "Title",
    verify: bool = False,
    timeout: float = 60,
    grace: float = 60,
) -> worker_pb2.ExecuteTaskRequest:
    limits = worker_pb2.AttemptLimits()
    limits.attempt_timeout.FromTimedelta(timedelta(seconds=timeout))
    limits.test_timeout.FromTimedelta(timedelta(seconds=60))
    limits.orphan_grace.FromTimedelta(timedelta(seconds=grace))
    made = worker_pb2.ExecuteTaskRequest(
        attempt_id=attempt_id,
        incarnation=incarnation,
        run_id="run",
        role=role,
        repository="/nowhere",
        run_base_commit=COMMIT,
        checks=worker_pb2.Checks(verification="true"),
        limits=limits,
    )
    if verify:
        made.verify.CopyFrom(worker_pb2.VerifyWork(commit=COMMIT))
    else:
        task = worker_pb2.TaskWork(
            task_id="task", title=title, number=1, base_commit=COMMIT, branch="codeframe/b"
        )
        made.task.CopyFrom(task)
    return made


def settings(tmp_path: Path) -> ServerSettings:
    return ServerSettings("127.0.0.1", 0, tmp_path, None, False, "human", "error", 1)


CAPABLE = Capability(("backend", "test"), slots=2, sandbox_mode="bubblewrap")
IDENTITY = Identity("w1", "0.1.0", "claude", "http://127.0.0.1:1", "0123456789ab", {"zone": "a"})


async def serve(
    tmp_path: Path, capability: Capability, retention: Retention | None = None
) -> AsyncIterator[Worker]:
    work, clock = Work(), LateClock()
    async with asyncio.TaskGroup() as group:
        attempts = Attempts(group, work, capability, clock, INCARNATION, retention)
        server = Server(settings(tmp_path), services=("codeframe.v1.WorkerService",))
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(attempts, IDENTITY), server.grpc)
        await server.start()
        async with open_channel(server.address) as channel:
            yield Worker(attempts, work, clock, worker_pb2_grpc.WorkerServiceStub(channel), server.address)
        work.go.set()
        await attempts.drain(asyncio.Event())
        await server.grpc.stop(None)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async for worker in serve(tmp_path, CAPABLE):
        yield worker


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if hasattr(call, "read") else call)
    error = from_rpc_error(caught.value)
    return f"{error.code.name} {error.reason.removeprefix('ERROR_REASON_')}"


async def sequences(call: Any) -> list[int]:
    return [notice.sequence async for response in call for notice in response.notices]


async def test_an_attempt_runs_once_however_often_it_is_asked_for(worker: Worker) -> None:
    calls = [worker.execute() for _ in range(5)]
    assert await worker.work.started.get() == "one"
    worker.work.go.set()
    results = [(await call).result for call in calls]
    assert all(result == results[0] for result in results)
    assert results[0].outcome == evidence_pb2.OUTCOME_SUCCEEDED
    assert results[0].last_sequence == 4
    assert await worker.result() == results[0]
    assert worker.work.ended == ["one"]


async def test_an_id_belongs_to_one_request(worker: Worker) -> None:
    call = worker.execute()
    await worker.work.started.get()
    assert await refusal(worker.execute(title="Another")) == "ALREADY_EXISTS ATTEMPT_ID_REUSED"
    worker.work.go.set()
    await call
    assert await refusal(worker.execute(title="Another")) == "ALREADY_EXISTS ATTEMPT_ID_REUSED"


async def test_what_was_bound_to_another_process_is_lost(worker: Worker) -> None:
    lost = "FAILED_PRECONDITION WORKER_RESTARTED"
    assert await refusal(worker.execute(incarnation="before")) == lost
    assert await refusal(worker.watch(incarnation="before")) == lost
    assert await refusal(worker.cancel(incarnation="before")) == lost


async def test_a_caller_that_goes_away_cancels_nothing(worker: Worker) -> None:
    call = worker.execute()
    await worker.work.started.get()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with open_channel(worker.address) as other:
        again = worker_pb2_grpc.WorkerServiceStub(other).ExecuteTask(request())
        worker.work.go.set()
        assert (await again).result.outcome == evidence_pb2.OUTCOME_SUCCEEDED
    assert worker.work.ended == ["one"]


async def test_an_attempt_that_nobody_asks_for_ends_orphaned(worker: Worker) -> None:
    call = worker.execute(grace=0.05)
    await worker.work.started.get()
    call.cancel()
    assert await sequences(worker.watch()) == [1, 2, 3]  # to its end
    result = (await worker.execute(grace=0.05)).result
    assert (result.outcome, result.message) == (
        evidence_pb2.OUTCOME_ORPHANED,
        "nobody asked for it for 0.05 s",
    )


async def test_who_joins_within_the_grace_keeps_it(worker: Worker) -> None:
    first = worker.execute(grace=0.3)
    await worker.work.started.get()
    first.cancel()
    second = worker.execute(grace=0.3)
    watch = worker.watch(after=3)
    with pytest.raises(TimeoutError):  # the grace goes by, and it still runs
        async with asyncio.timeout(0.6):
            await watch.read()
    worker.work.go.set()
    assert (await second).result.outcome == evidence_pb2.OUTCOME_SUCCEEDED


async def test_every_watcher_gets_every_notice_from_where_it_is(worker: Worker) -> None:
    worker.work.notices = 700
    call = worker.execute()
    await worker.work.started.get()
    watchers = [worker.watch(after=after) for after in (0, 0, 650, 700, 701, 5000)]
    await watchers[0].read()
    worker.work.go.set()
    await call
    assert await sequences(watchers[1]) == list(range(1, 702))
    assert await sequences(watchers[2]) == list(range(651, 702))
    assert await sequences(watchers[3]) == [701]
    assert await sequences(watchers[4]) == await sequences(watchers[5]) == []
    assert await sequences(worker.watch(after=699)) == [700, 701]


async def test_notices_carry_the_task_and_the_agent(worker: Worker) -> None:
    call = worker.execute()
    batch = await worker.watch(after=2).read() if await worker.work.started.get() else None
    assert batch is not None
    update = batch.notices[0].activity_update
    assert (update.agent, update.task_id, update.message) == ("w1/backend", "task", "step 3")
    worker.work.go.set()
    await call


async def test_a_watcher_that_never_reads_holds_nobody_up(worker: Worker) -> None:
    worker.work.notices = 9_000
    async with open_channel(worker.address) as channel:
        lazy = worker_pb2_grpc.WorkerServiceStub(channel)
        call = worker.execute()
        await worker.work.started.get()
        asked = worker_pb2.WatchAttemptRequest(attempt_id="one", incarnation=INCARNATION)
        stalled = [lazy.WatchAttempt(asked) for _ in range(20)]
        worker.work.go.set()
        assert (await call).result.last_sequence == 9_001
        assert await sequences(worker.watch()) == list(range(1, 9_002))
        for watch in stalled:
            watch.cancel()


async def test_too_many_notices_end_the_attempt(worker: Worker) -> None:
    worker.work.notices = 10_001
    result = await worker.result()
    assert (result.outcome, result.last_sequence) == (evidence_pb2.OUTCOME_LIMIT_EXCEEDED, 10_000)


async def test_a_cancel_answers_once_the_attempt_has_ended(worker: Worker) -> None:
    call = worker.execute()
    await worker.work.started.get()
    assert (await worker.cancel()).outcome == evidence_pb2.OUTCOME_CANCELLED
    assert worker.work.ended == ["one"]
    assert (await call).result.outcome == evidence_pb2.OUTCOME_CANCELLED
    assert (
        await worker.cancel(reason="STALLED")
    ).outcome == evidence_pb2.OUTCOME_CANCELLED  # as it had ended


async def test_a_stalled_attempt_is_timed_out(worker: Worker) -> None:
    call = worker.execute()
    await worker.work.started.get()
    assert (await worker.cancel(reason="STALLED")).outcome == evidence_pb2.OUTCOME_TIMED_OUT
    assert (await call).result.outcome == evidence_pb2.OUTCOME_TIMED_OUT


async def test_a_cancel_that_is_quicker_than_the_start_is_remembered(worker: Worker) -> None:
    assert (await worker.cancel()).outcome == evidence_pb2.OUTCOME_UNSPECIFIED
    assert (await worker.result()).outcome == evidence_pb2.OUTCOME_CANCELLED
    assert await sequences(worker.watch()) == []
    assert worker.work.started.empty()


async def test_an_attempt_ends_with_its_time(worker: Worker) -> None:
    result = (await worker.execute(timeout=0.05)).result
    assert (result.outcome, result.message) == (evidence_pb2.OUTCOME_TIMED_OUT, "not done within 0.05 s")


async def test_slots_bound_what_runs_and_are_freed(worker: Worker) -> None:
    calls = [worker.execute(name) for name in ("one", "two")]
    await worker.work.started.get()
    await worker.work.started.get()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await worker.execute("three")
    error = from_rpc_error(caught.value)
    assert (error.reason, error.retry_after) == ("ERROR_REASON_NO_FREE_SLOT", timedelta(seconds=1))
    description = await worker.stub.DescribeWorker(worker_pb2.DescribeWorkerRequest())
    assert sorted(description.in_flight) == ["one", "two"]
    worker.work.go.set()
    await asyncio.gather(*calls)
    assert (await worker.result("three")).outcome == evidence_pb2.OUTCOME_SUCCEEDED


async def test_what_this_worker_cannot_do_is_refused_before_it_starts(tmp_path: Path) -> None:
    capability = Capability(("test",), 1, "", "no sandbox works here", "ANTHROPIC_API_KEY is not set")
    async for worker in serve(tmp_path, capability):
        assert await refusal(worker.execute()) == "FAILED_PRECONDITION UNKNOWN_ROLE"
        assert await refusal(worker.execute(role="test")) == "FAILED_PRECONDITION NO_SANDBOX"
        worker.attempts.capability = Capability(("test",), 1, "none", "", "ANTHROPIC_API_KEY is not set")
        assert await refusal(worker.execute(role="test")) == "FAILED_PRECONDITION NO_MODEL_KEY"
        worker.work.go.set()
        assert (
            await worker.execute(role="test", verify=True)
        ).result.outcome == evidence_pb2.OUTCOME_SUCCEEDED


async def test_artifacts_are_read_in_chunks_from_an_offset_until_released(worker: Worker) -> None:
    worker.work.artifact = bytes(range(256)) * 4096
    worker.work.go.set()
    before = await worker.result()
    chunks = [response.data async for response in worker.read()]
    assert [len(chunk) for chunk in chunks] == [256 << 10] * 4
    assert b"".join(chunks) == worker.work.artifact
    assert (
        b"".join([response.data async for response in worker.read(offset=(1 << 20) - 3)]) == b"\xfd\xfe\xff"
    )
    assert await refusal(worker.read(name="diff")) == "NOT_FOUND ARTIFACT_NOT_FOUND"
    assert await refusal(worker.read("none")) == "NOT_FOUND ATTEMPT_NOT_FOUND"
    await worker.release()
    await worker.release()
    await worker.release("none")
    assert await refusal(worker.read()) == "FAILED_PRECONDITION ATTEMPT_RELEASED"
    assert await refusal(worker.watch()) == "FAILED_PRECONDITION ATTEMPT_RELEASED"
    assert await worker.result() == before


async def test_an_attempt_released_while_it_runs_is_let_go_at_its_end(worker: Worker) -> None:
    call = worker.execute()
    await worker.work.started.get()
    watch = worker.watch()
    await watch.read()
    await worker.release()
    worker.work.go.set()
    await call
    assert [notice.sequence for notice in (await watch.read()).notices] == [4]
    assert await refusal(worker.watch()) == "FAILED_PRECONDITION ATTEMPT_RELEASED"


async def test_unknown_attempts_cannot_be_watched(worker: Worker) -> None:
    assert await refusal(worker.watch()) == "NOT_FOUND ATTEMPT_NOT_FOUND"


async def test_a_worker_tells_what_nobody_released(worker: Worker) -> None:
    worker.work.go.set()
    for name in ("one", "two"):
        await worker.result(name)
    await worker.release("one")
    description = await worker.stub.DescribeWorker(worker_pb2.DescribeWorkerRequest())
    assert list(description.unreleased) == ["two"]


async def test_what_is_not_released_fills_the_worker_up(tmp_path: Path) -> None:
    async for worker in serve(tmp_path, CAPABLE, Retention(unreleased=1_000)):
        worker.work.artifact = b"x" * 1_000
        worker.work.go.set()
        await worker.result()
        assert await refusal(worker.execute("two")) == "RESOURCE_EXHAUSTED NO_FREE_SLOT"
        await worker.release()
        await worker.result("two")


async def test_results_are_kept_for_a_time_and_a_number(tmp_path: Path) -> None:
    async for worker in serve(tmp_path, CAPABLE, Retention(records=3)):
        worker.work.go.set()
        for name in ("one", "two", "three", "four"):
            await worker.result(name)
        await worker.result("two")
        assert worker.work.ended == ["one", "two", "three", "four"]
        await worker.result("one")  # forgotten, so done again
        assert worker.work.ended[-1] == "one"
        worker.clock.ahead = timedelta(hours=25)
        await worker.result("five")
        await worker.result("four")
        assert worker.work.ended[-2:] == ["five", "four"]


async def test_a_drain_takes_nothing_new_and_interrupts_what_is_left(worker: Worker) -> None:
    call = worker.execute()
    await worker.work.started.get()
    async with asyncio.TaskGroup() as group:
        hastened = asyncio.Event()
        drain = group.create_task(worker.attempts.drain(hastened))
        await asyncio.sleep(0)  # it draws breath once
        assert worker.attempts.draining
        assert await refusal(worker.execute("two")) == "UNAVAILABLE DRAINING"
        hastened.set()
        await drain
    assert (await call).result.outcome == evidence_pb2.OUTCOME_INTERRUPTED


async def test_a_drain_lets_what_ends_in_time_end(worker: Worker) -> None:
    call = worker.execute()
    await worker.work.started.get()
    async with asyncio.TaskGroup() as group:
        drain = group.create_task(worker.attempts.drain(asyncio.Event()))
        worker.work.go.set()
        await drain
    assert (await call).result.outcome == evidence_pb2.OUTCOME_SUCCEEDED


async def test_a_worker_says_what_it_is(worker: Worker) -> None:
    told = await worker.stub.DescribeWorker(worker_pb2.DescribeWorkerRequest())
    assert (told.name, list(told.roles), told.slots, told.sandbox_mode) == (
        "w1",
        ["backend", "test"],
        2,
        "bubblewrap",
    )
    assert (told.incarnation, told.model, told.key_fingerprint) == (INCARNATION, "claude", "0123456789ab")
    assert (dict(told.labels), told.draining) == ({"zone": "a"}, False)


async def test_a_request_that_is_not_valid_names_its_field(worker: Worker) -> None:
    bad = request()
    bad.task.base_commit = "main"
    bad.limits.attempt_timeout.FromTimedelta(timedelta())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await worker.stub.ExecuteTask(bad)
    fields = {each.field for each in from_rpc_error(caught.value).violations}
    assert fields == {"limits.attempt_timeout", "task.base_commit"}


async def test_what_is_said_is_clipped_to_what_an_event_may_hold() -> None:
    notices = NoticeLog(SystemClock())
    await notices.append(Activity("tool", "ü" * 100_000))
    await notices.append(Correction(1, 3, CorrectionStatus.STARTED, "ü" * 100_000))
    notices.close()
    texts = [entry.notice async for batch in notices.follow(0) for entry in batch.notices]
    match texts:
        case [Activity(message=message), Correction(error_summary=str(summary))]:
            assert (len(message), len(summary)) == (4_000, 10_000)
        case _:
            pytest.fail(f"{texts}")


async def test_a_quiet_log_beats_and_says_for_how_long() -> None:
    notices = NoticeLog(SystemClock())
    follow = notices.follow(0, heartbeat=0.02)
    first, second = await anext(follow), await anext(follow)
    assert first.notices == second.notices == ()
    assert timedelta(seconds=0.02) <= first.idle < second.idle
    await notices.append(Activity("tool", "a step"))
    third = await anext(follow)
    assert third.notices[0].sequence == 1
    assert third.idle < second.idle
    notices.close()
    assert [batch async for batch in follow] == []
