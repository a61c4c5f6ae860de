"""One attempt seen from the lead, against a worker that answers as a test orders."""

import asyncio
import hashlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from codeframe.v1 import evidence_pb2, state_pb2, worker_pb2, worker_pb2_grpc
from services.lead.artifacts import ArtifactStore
from services.lead.attempt_call import AttemptCall
from services.lead.fleet import Fleet
from services.lead.integrator import Integrators, attempt_branch
from services.lead.journal.sqlite import sqlite_journal
from services.lead.machine.attempt import Attempt, AttemptKind, Binding
from services.lead.machine.events import Noticed
from services.lead.machine.happenings import Ended, NotStarted
from services.lead.machine.outcome import Outcome
from services.lead.machine.usage import Usage
from services.lead.silence import Patience
from services.runtime.errors import FailedPrecondition, Internal, NotFound, ResourceExhausted, Unavailable
from services.runtime.git import Git
from services.runtime.server import Server
from services.runtime.settings import ServerSettings
from tests.git_project import commit_files, git, make_project

QUICK = Patience(silence=0.3, deadline=5.0, shortest_pause=0.01, longest_pause=0.05, stall=60.0)
ID = "r.a.1"
REQUEST = worker_pb2.ExecuteTaskRequest(
    attempt_id=ID,
    incarnation="i",
    run_id="r",
    role="backend",
    repository="/repository",
    run_base_commit="0" * 40,
    checks=worker_pb2.Checks(verification="true"),
    limits=worker_pb2.AttemptLimits(
        attempt_timeout=Duration(seconds=9), test_timeout=Duration(seconds=9), turns=1
    ),
    verify=worker_pb2.VerifyWork(commit="0" * 40),
)
Answer = Callable[[], Awaitable[evidence_pb2.TaskResult]]


def result(**more: Any) -> evidence_pb2.TaskResult:
    return evidence_pb2.TaskResult(attempt_id=ID, outcome=evidence_pb2.OUTCOME_STUCK, **more)


def notices(*sequences: int) -> worker_pb2.WatchAttemptResponse:
    return worker_pb2.WatchAttemptResponse(
        notices=[_activity(sequence, f"line {sequence}") for sequence in sequences]
    )


def _activity(sequence: int, message: str) -> worker_pb2.Notice:
    told = worker_pb2.Notice(sequence=sequence)
    told.notice_time.FromDatetime(datetime.now(UTC))
    told.activity_update.message = message
    return told


@dataclass(slots=True)
class OrderedWorker(worker_pb2_grpc.WorkerServiceServicer):
    """Raises or returns what it is given, then what it was given last."""

    answers: deque[Exception | evidence_pb2.TaskResult] = field(default_factory=lambda: deque([result()]))
    watch: deque[Exception | worker_pb2.WatchAttemptResponse] = field(default_factory=deque)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    cancels: deque[Exception | None] = field(default_factory=lambda: deque([None]))
    requests: list[bytes] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    late: evidence_pb2.TaskResult | None = None
    after: list[int] = field(default_factory=list)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    tell: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def DescribeWorker(
        self, request: worker_pb2.DescribeWorkerRequest, context: Any
    ) -> worker_pb2.DescribeWorkerResponse:
        raise NotImplementedError

    async def ReleaseAttempt(
        self, request: worker_pb2.ReleaseAttemptRequest, context: Any
    ) -> worker_pb2.ReleaseAttemptResponse:
        raise NotImplementedError

    async def ExecuteTask(
        self, request: worker_pb2.ExecuteTaskRequest, context: Any
    ) -> worker_pb2.ExecuteTaskResponse:
        self.requests.append(request.SerializeToString())
        self.asked.set()
        await self.answer.wait()
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return worker_pb2.ExecuteTaskResponse(result=answer)

    async def WatchAttempt(
        self, request: worker_pb2.WatchAttemptRequest, context: Any
    ) -> AsyncIterator[worker_pb2.WatchAttemptResponse]:
        self.after.append(request.after_sequence)
        await self.tell.wait()
        while self.watch:
            told = self.watch.popleft()
            if isinstance(told, Exception):
                raise told
            yield told

    async def CancelAttempt(
        self, request: worker_pb2.CancelAttemptRequest, context: Any
    ) -> worker_pb2.CancelAttemptResponse:
        self.cancelled.append(request.reason)
        if trouble := self.cancels.popleft() if len(self.cancels) > 1 else self.cancels[0]:
            raise trouble
        self.answer.set()
        return worker_pb2.CancelAttemptResponse(result=self.late)

    async def ReadArtifact(
        self, request: worker_pb2.WorkerServiceReadArtifactRequest, context: Any
    ) -> AsyncIterator[worker_pb2.WorkerServiceReadArtifactResponse]:
        if request.name not in self.artifacts:
            raise NotFound("ARTIFACT_NOT_FOUND", "no such artifact")
        yield worker_pb2.WorkerServiceReadArtifactResponse(
            data=self.artifacts[request.name][request.offset :]
        )


@dataclass(slots=True)
class Scene:
    """A worker at an address, where it is served when a test says so, and a call to it."""

    folder: Path
    project: Path
    worker: OrderedWorker
    stack: AsyncExitStack
    fleet: Fleet
    port: int = 0
    journaled: list[Noticed] = field(default_factory=list)
    journaling: Callable[[], Awaitable[object]] | None = None

    async def serve(self) -> Callable[[], Awaitable[None]]:
        """Serve the worker; returns what stops it."""
        settings = ServerSettings("127.0.0.1", self.port, self.folder, None, False, "human", "error", 0.0)
        server = Server(settings, ("codeframe.v1.WorkerService",))
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(self.worker, server.grpc)
        await server.start()
        self.port = int(server.address.rpartition(":")[2])

        async def stop() -> None:
            await server.grpc.stop(None)

        self.stack.push_async_callback(stop)
        return stop

    def call(self, patience: Patience = QUICK, **more: Any) -> AttemptCall:
        binding = Binding("w", f"127.0.0.1:{self.port}", "i")
        facts = {"base": "0" * 40, "bound_time": datetime.now(UTC), "task_id": "a", **more}
        attempt = Attempt(ID, 1, AttemptKind.TASK, "backend", binding, REQUEST.SerializeToString(), **facts)
        integrators = Integrators(Git(os.environ), self.folder / "clones")
        return AttemptCall(
            attempt,
            "r",
            self.fleet,
            integrators.of(str(self.project)),
            ArtifactStore(self.folder / "artifacts"),
            self._journal,
            patience,
        )

    async def _journal(self, told: tuple[Noticed, ...]) -> None:
        if self.journaling:
            await self.journaling()
        self.journaled += told


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    make_project(tmp_path / "project", {"a": ""})
    async with _scene(tmp_path) as made:
        await made.serve()
        made.worker.tell.set()
        made.worker.answer.set()
        yield made


@asynccontextmanager
async def _scene(folder: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        journal = await stack.enter_async_context(
            sqlite_journal(folder / "lead", group, new_log_id=lambda: "log")
        )
        fleet = Fleet((), journal)
        stack.push_async_callback(fleet.close)
        yield Scene(folder, folder / "project", OrderedWorker(), stack, fleet)


async def ended(call: AttemptCall) -> tuple[Outcome, str]:
    told = await call.follow()
    assert isinstance(told, Ended)
    return told.outcome, told.message


async def test_the_result_of_a_worker_is_its_word(scene: Scene) -> None:
    scene.worker.answers = deque([result(message="again and again", corrections=2)])
    told = await scene.call().follow()
    assert isinstance(told, Ended)
    assert (told.outcome, told.message, told.corrections) == (Outcome.STUCK, "again and again", 2)
    assert evidence_pb2.TaskResult.FromString(told.result) == scene.worker.answers[0]


async def test_an_outcome_that_is_not_known_is_internal(scene: Scene) -> None:
    scene.worker.answers = deque([evidence_pb2.TaskResult(attempt_id=ID, outcome=99)])  # type: ignore[arg-type]
    assert (await ended(scene.call()))[0] is Outcome.INTERNAL


async def test_a_call_that_says_nothing_is_repeated_byte_for_byte(scene: Scene) -> None:
    trouble = Unavailable("UNAVAILABLE", "not now")
    scene.worker.answers = deque([trouble, Internal("INTERNAL", "incident 1"), trouble, result()])
    assert await ended(scene.call()) == (Outcome.STUCK, "")
    assert scene.worker.requests == [REQUEST.SerializeToString()] * 4


async def test_a_deadline_is_no_answer(scene: Scene) -> None:
    scene.worker.answer.clear()
    following = asyncio.create_task(ended(scene.call(Patience(silence=0.3, deadline=0.1))))
    while len(scene.worker.requests) < 6:
        scene.worker.asked.clear()
        await scene.worker.asked.wait()
    scene.worker.answer.set()
    assert await following == (Outcome.STUCK, "")


@pytest.mark.parametrize(
    "refusal",
    [
        ResourceExhausted("NO_FREE_SLOT", "full"),
        Unavailable("DRAINING", "full"),
        FailedPrecondition("UNKNOWN_ROLE", "full"),
        FailedPrecondition("NO_MODEL_KEY", "full"),
        FailedPrecondition("NO_SANDBOX", "full"),
    ],
    ids=lambda refusal: str(refusal.reason),
)
async def test_a_refusal_means_that_it_did_not_start(scene: Scene, refusal: Any) -> None:
    scene.worker.answers = deque([refusal])
    scene.worker.watch = deque([NotFound("ATTEMPT_NOT_FOUND", "not here")] * 1000)
    told = await scene.call().follow()
    assert isinstance(told, NotStarted)
    assert told.message == f"{refusal.reason.removeprefix('ERROR_REASON_')}: full"


async def test_an_attempt_that_was_taken_is_not_refused_any_more(scene: Scene) -> None:
    scene.worker.answers = deque([ResourceExhausted("NO_FREE_SLOT", "full"), result()])
    assert await ended(scene.call(started=True)) == (Outcome.STUCK, "")


async def test_another_incarnation_means_lost_and_the_pushed_tip_is_kept(scene: Scene) -> None:
    tip = commit_files(scene.project, {"b": ""})
    git(scene.project, "update-ref", f"refs/heads/{attempt_branch('r', 'a', 1)}", tip)
    restarted = FailedPrecondition("WORKER_RESTARTED", "this is incarnation j")
    scene.worker.answers = deque([restarted])
    scene.worker.watch = deque([restarted])
    told = await scene.call().follow()
    assert isinstance(told, Ended)
    assert (told.outcome, told.message, told.commit) == (Outcome.LOST, "this is incarnation j", tip)
    assert not told.result


async def test_silence_means_lost_after_one_more_try(tmp_path: Path) -> None:
    make_project(tmp_path / "project", {"a": ""})
    async with _scene(tmp_path) as scene:
        await (await scene.serve())()
        started = time.monotonic()
        outcome, message = await ended(scene.call())
        assert (outcome, time.monotonic() - started > QUICK.silence) == (Outcome.LOST, True)
        assert "was silent for 0.3 s" in message


async def test_a_lead_that_slept_asks_first(tmp_path: Path) -> None:
    make_project(tmp_path / "project", {"a": ""})
    async with _scene(tmp_path) as scene:
        await (await scene.serve())()
        scene.worker.tell.set()
        scene.worker.answer.set()
        following = asyncio.create_task(ended(scene.call(Patience(0.8, 5.0, 0.5, 0.5))))
        await asyncio.sleep(0.1)  # it has asked once, in vain
        await scene.serve()
        time.sleep(1.0)  # noqa: ASYNC251 - the whole process slept
        assert await following == (Outcome.STUCK, "")


async def test_a_result_counts_only_once_all_its_notices_are_journaled(scene: Scene) -> None:
    scene.worker.answers = deque([result(last_sequence=3)])
    scene.worker.tell.clear()
    following = asyncio.create_task(scene.call().follow())
    await scene.worker.asked.wait()
    scene.worker.watch = deque([notices(1, 2), Unavailable("UNAVAILABLE", "x"), notices(2, 3)])
    journaling = asyncio.Event()
    scene.journaling = journaling.wait
    scene.worker.tell.set()
    done, _ = await asyncio.wait({following}, timeout=0.2)
    assert not done, "the journal has not taken them"
    journaling.set()
    assert isinstance(await following, Ended)
    assert [each.sequence for each in scene.journaled] == [1, 2, 3]


async def test_what_is_journaled_is_not_asked_for_again(scene: Scene) -> None:
    scene.worker.answers = deque([result(last_sequence=4)])
    scene.worker.watch = deque([notices(3, 4)])
    await scene.call(started=True, last_sequence=2).follow()
    assert scene.worker.after[0] == 2
    assert [each.sequence for each in scene.journaled] == [3, 4]


async def test_artifacts_are_held_before_the_end_is_told(scene: Scene) -> None:
    data = b"a report"
    told = evidence_pb2.Artifact(name="log", size=8, sha256=hashlib.sha256(data).hexdigest())
    scene.worker.answers = deque([result(artifacts=[told])])
    scene.worker.artifacts["log"] = data
    got = await scene.call().follow()
    assert isinstance(got, Ended)
    assert [held.name for held in got.artifacts] == ["log"]
    assert await ArtifactStore(scene.folder / "artifacts").read_whole(ID, "log") == data


async def test_an_artifact_of_other_bytes_is_a_fault_of_the_worker(scene: Scene) -> None:
    told = evidence_pb2.Artifact(name="log", size=8, sha256="0" * 64)
    scene.worker.answers = deque([result(artifacts=[told])])
    scene.worker.artifacts["log"] = b"8 bytes!"
    outcome, message = await ended(scene.call())
    assert (outcome, "log has other bytes" in message) == (Outcome.INTERNAL, True)
    assert scene.worker.cancelled


async def test_an_artifact_that_is_gone_means_lost(scene: Scene) -> None:
    told = evidence_pb2.Artifact(name="log", size=8, sha256="0" * 64)
    scene.worker.answers = deque([result(artifacts=[told])])
    assert (await ended(scene.call()))[0] is Outcome.LOST


async def test_a_commit_that_was_not_pushed_is_a_fault_of_the_worker(scene: Scene) -> None:
    scene.worker.answers = deque([result(commit="1" * 40, branch=attempt_branch("r", "a", 1))])
    outcome, message = await ended(scene.call())
    assert (outcome, "was not pushed" in message) == (Outcome.INTERNAL, True)


async def test_a_state_that_is_the_leads_is_a_fault_and_cancels(scene: Scene) -> None:
    scene.worker.answer.clear()
    told = worker_pb2.WatchAttemptResponse(notices=[worker_pb2.Notice(sequence=1)])
    told.notices[0].task_status_changed.status = state_pb2.TASK_STATE_COMPLETED
    scene.worker.watch = deque([told])
    outcome, message = await ended(scene.call())
    assert (outcome, "the lead's to tell" in message) == (Outcome.INTERNAL, True)
    assert scene.worker.cancelled
    assert not scene.journaled


async def test_an_id_that_is_anothers_is_a_fault_and_not_asked_again(scene: Scene) -> None:
    scene.worker.answers = deque([FailedPrecondition("ATTEMPT_ID_REUSED", "another request")])
    assert (await ended(scene.call()))[0] is Outcome.INTERNAL
    assert len(scene.worker.requests) == 1


async def test_a_worker_that_always_fails_is_not_asked_for_ever(scene: Scene) -> None:
    scene.worker.answers = deque([Internal("INTERNAL", "incident 1")])
    scene.worker.watch = deque([NotFound("ATTEMPT_NOT_FOUND", "not here")] * 1000)
    assert (await ended(scene.call()))[0] is Outcome.INTERNAL


async def test_notices_that_were_released_mean_lost(scene: Scene) -> None:
    scene.worker.answers = deque([result(last_sequence=3)])
    scene.worker.watch = deque([FailedPrecondition("ATTEMPT_RELEASED", "gone")])
    assert (await ended(scene.call()))[0] is Outcome.LOST


async def test_a_stalled_loop_is_cancelled_as_such(scene: Scene) -> None:
    scene.worker.answer.clear()
    heartbeat = worker_pb2.WatchAttemptResponse()
    heartbeat.idle.FromSeconds(61)
    scene.worker.watch = deque([heartbeat])
    await ended(scene.call())
    assert scene.worker.cancelled == [worker_pb2.CANCEL_REASON_STALLED]


async def test_a_cancel_is_repeated_until_it_is_answered(scene: Scene) -> None:
    scene.worker.cancels = deque([Unavailable("UNAVAILABLE", "x"), Internal("INTERNAL", "incident 2"), None])
    await scene.call().cancel(worker_pb2.CANCEL_REASON_CANCELLED)
    assert len(scene.worker.cancelled) == 3
    scene.worker.cancels = deque([FailedPrecondition("WORKER_RESTARTED", "it died")])
    await scene.call().cancel(worker_pb2.CANCEL_REASON_CANCELLED)


async def test_a_lost_attempts_worker_is_asked_until_it_tells_what_the_attempt_took(scene: Scene) -> None:
    usage = evidence_pb2.ModelUsage(model="m", turns=3, input_tokens=70, cost_micros=9, cost_known=True)
    scene.worker.late = result(usage=[usage], wall_time=Duration(seconds=8))
    scene.worker.cancels = deque([Unavailable("UNAVAILABLE", "not yet"), None])
    told = await scene.call().ask_lost()
    assert (told.usage, told.wall_time) == ((Usage("m", 3, 70, cost_micros=9),), timedelta(seconds=8))
    assert (told.is_known, told.is_dead) == (True, False)
    scene.worker.late = None
    assert not (await scene.call().ask_lost()).is_known
    scene.worker.cancels = deque([FailedPrecondition("WORKER_RESTARTED", "it died")])
    assert (await scene.call().ask_lost()).is_dead


async def test_a_call_that_is_dropped_cancels_nothing(scene: Scene) -> None:
    scene.worker.answer.clear()
    following = asyncio.create_task(scene.call().follow())
    await scene.worker.asked.wait()
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert not scene.worker.cancelled
