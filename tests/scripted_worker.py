"""A worker whose attempts do what a test says in place of an agent: server, attempts and git are real."""

import asyncio
import hashlib
import json
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from codeframe.v1 import worker_pb2_grpc
from services.runtime.server import Server
from services.runtime.settings import ServerSettings
from services.workers.attempts import Attempts, Capability, Retention
from services.workers.broadcast import Activity, Broadcast, Phase, TaskInProgress, TestsRan, TurnPaid
from services.workers.clock import SystemClock
from services.workers.halt import Halt
from services.workers.model.gate import Pause
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.servicer import Identity, WorkerServicer
from services.workers.work import (
    Artifact,
    AttemptRequest,
    FileChange,
    ModelUsage,
    PlanWork,
    TaskResult,
    TaskWork,
    VerificationRun,
    VerifyWork,
)

_IDENTITY = ("-c", "user.name=worker", "-c", "user.email=worker@localhost", "-c", "core.hooksPath=/dev/null")


@dataclass(slots=True)
class Script:
    """What attempts do, shared by the workers of a test.

    A task's attempt writes its `files` (by task, or by task and number such as `a.2`; default: one
    named after the task), pushes, and waits for its gate where there is one; before its turn is paid it waits
    for the gate `a.1.turn`. `endings` are what its
    first attempts end as instead; those of `verify` and `plan` are those of verifications and planning.
    A verification runs its command, whose lines `PASS id` and `FAIL id` are its report. Planning attempts
    hand over `plans`, one each.
    """

    files: dict[str, Mapping[str, str | None]] = field(default_factory=dict)
    endings: dict[str, deque[Outcome]] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    plans: deque[bytes] = field(default_factory=deque)
    notices: int = 1
    requests: list[AttemptRequest] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    ended: list[str] = field(default_factory=list)
    busiest: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def gate(self, *names: str) -> None:
        """Have the attempts of these tasks (or one, such as `a.1`), `verify` or `plan` wait until `open`."""
        for name in names:
            self.gates[name] = asyncio.Event()

    def open(self, *names: str) -> None:
        """Let them go on."""
        for name in names:
            self.gates[name].set()

    async def until_running(self, *attempt_ids: str) -> None:
        """Return once these attempts run."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.running.issuperset(attempt_ids))

    async def until_waiting(self, *attempt_ids: str) -> None:
        """Return once these attempts wait at their gates: what they made is pushed."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.waiting.issuperset(attempt_ids))

    async def wait_at(self, attempt_id: str, *names: str) -> None:
        """Wait at the gates of these names, where there are some."""
        for name in names:
            if gate := self.gates.get(name):
                async with self.changed:
                    self.waiting.add(attempt_id)
                    self.changed.notify_all()
                await gate.wait()
        self.waiting.discard(attempt_id)

    async def started(self, request: AttemptRequest) -> None:
        async with self.changed:
            self.requests.append(request)
            self.running.add(request.attempt_id)
            self.busiest = max(self.busiest, len(self.running))
            self.changed.notify_all()

    async def finished(self, attempt_id: str) -> None:
        async with self.changed:
            self.running.discard(attempt_id)
            self.ended.append(attempt_id)
            self.changed.notify_all()

    def files_of(self, work: TaskWork) -> Mapping[str, str | None]:
        """What an attempt writes."""
        for name in (f"{work.task_id}.{work.number}", work.task_id):
            if name in self.files:
                return self.files[name]
        return {f"{work.task_id}.txt": "done\n"}

    def work(self, task_id: str) -> list[TaskWork]:
        """What attempts of a task were asked to do, as they started."""
        asked = (one.work for one in self.requests)
        return [work for work in asked if isinstance(work, TaskWork) and work.task_id == task_id]


class ScriptedWork:
    """One worker's `Perform`."""

    def __init__(self, script: Script, folder: Path) -> None:
        self._script = script
        self._folder = folder
        self._paid: dict[str, tuple[ModelUsage, ...]] = {}

    async def __call__(self, request: AttemptRequest, broadcast: Broadcast, halt: Halt) -> TaskResult:
        start = datetime.now(UTC)
        await self._script.started(request)
        checkout = self._folder / hashlib.sha256(request.attempt_id.encode()).hexdigest()[:12]
        result = TaskResult(request.attempt_id, Outcome.SUCCEEDED, "", 0, start, start)
        try:
            async with halt.within(request.limits.attempt_timeout.total_seconds()):
                match request.work:
                    case TaskWork() as work:
                        result = await self._task(request, work, checkout, broadcast, start)
                    case VerifyWork() as work:
                        result = await self._verify(request, work, checkout, broadcast, start)
                    case PlanWork():
                        result = await self._plan(request, broadcast, start)
        except AttemptFailed as failed:
            now = datetime.now(UTC)
            result = TaskResult(request.attempt_id, failed.outcome, failed.message, 0, start, now)
            result = replace(result, usage=self._paid.get(request.attempt_id, ()))
        finally:
            shutil.rmtree(checkout, ignore_errors=True)
            await self._script.finished(request.attempt_id)
        return result

    async def _task(
        self, request: AttemptRequest, work: TaskWork, checkout: Path, broadcast: Broadcast, start: datetime
    ) -> TaskResult:
        await broadcast(TaskInProgress(Phase.WORKING, 10))
        for number in range(self._script.notices):
            await broadcast(Activity("tool", f"step {number + 1}"))
        await self._script.wait_at(request.attempt_id, f"{work.task_id}.{work.number}.turn")
        usage = ModelUsage("scripted", turns=1, input_tokens=10, output_tokens=5)
        self._paid[request.attempt_id] = (usage,)
        await broadcast(TurnPaid(1, usage, "request-1", timedelta(seconds=1)))
        await self._clone(request.repository, work.start_commit or work.base_commit, checkout)
        for name, text in self._script.files_of(work).items():
            path = checkout / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        await _git(checkout, "add", "--all")
        subject = f"feat({work.task_id}): {work.title}"
        await _git(checkout, "commit", "--quiet", "--allow-empty", "-m", subject)
        commit = (await _git(checkout, "rev-parse", "HEAD")).strip()
        await _git(
            checkout, "push", "--quiet", "--force", request.repository, f"HEAD:refs/heads/{work.branch}"
        )
        await self._script.wait_at(request.attempt_id, work.task_id, f"{work.task_id}.{work.number}")
        await broadcast(TaskInProgress(Phase.VERIFYING, 80))
        if endings := self._script.endings.get(work.task_id):
            outcome = endings.popleft()
            if outcome is not Outcome.SUCCEEDED:
                raise AttemptFailed(outcome, f"as ordered: {outcome.value}")
        run, report = await _run_command(request, commit, checkout)
        await broadcast(_told(run))
        changed = (await _git(checkout, "diff", "--name-only", work.base_commit, commit)).splitlines()
        patch = await _git(checkout, "diff", work.base_commit, commit)
        artifacts = (report, _artifact("diff", patch.encode()), _artifact("log", b"a log\n" * 100_000))
        return TaskResult(
            attempt_id=request.attempt_id,
            outcome=Outcome.SUCCEEDED if run.green else Outcome.VERIFICATION_FAILED,
            message="" if run.green else run.summary,
            last_sequence=0,
            start_time=start,
            end_time=datetime.now(UTC),
            base_commit=work.base_commit,
            commit=commit,
            branch=work.branch,
            commit_subject=subject,
            files=tuple(FileChange(name, "modified") for name in changed),
            verifications=(run,),
            usage=(usage,),
            artifacts={each.name: each for each in artifacts},
            sandbox_mode="none",
        )

    async def _verify(
        self, request: AttemptRequest, work: VerifyWork, checkout: Path, broadcast: Broadcast, start: datetime
    ) -> TaskResult:
        await self._script.wait_at(request.attempt_id, "verify")
        if endings := self._script.endings.get("verify"):
            outcome = endings.popleft()
            if outcome is not Outcome.SUCCEEDED:
                raise AttemptFailed(outcome, f"as ordered: {outcome.value}")
        await self._clone(request.repository, work.commit, checkout)
        run, report = await _run_command(request, work.commit, checkout)
        await broadcast(_told(run))
        return TaskResult(
            attempt_id=request.attempt_id,
            outcome=Outcome.SUCCEEDED if run.green else Outcome.VERIFICATION_FAILED,
            message=run.summary,
            last_sequence=0,
            start_time=start,
            end_time=datetime.now(UTC),
            base_commit=work.commit,
            verifications=(run,),
            artifacts={report.name: report},
            sandbox_mode="none",
        )

    async def _plan(self, request: AttemptRequest, broadcast: Broadcast, start: datetime) -> TaskResult:
        await broadcast(Activity("tool", "read_file README"))
        usage = ModelUsage("scripted", turns=1, input_tokens=10, output_tokens=5)
        await broadcast(TurnPaid(1, usage, "request-1", timedelta(seconds=1)))
        await self._script.wait_at(request.attempt_id, "plan")
        if endings := self._script.endings.get("plan"):
            outcome = endings.popleft()
            raise AttemptFailed(outcome, f"as ordered: {outcome.value}")
        plan = _artifact("plan", self._script.plans.popleft(), "application/json")
        now = datetime.now(UTC)
        done = TaskResult(request.attempt_id, Outcome.SUCCEEDED, "", 0, start, now, usage=(usage,))
        return replace(done, artifacts={plan.name: plan}, sandbox_mode="none")

    async def _clone(self, repository: str, commit: str, checkout: Path) -> None:
        checkout.mkdir(parents=True)
        await _git(checkout, "init", "--quiet")
        await _git(checkout, "fetch", "--quiet", repository, "+refs/heads/*:refs/origin/*")
        await _git(checkout, "checkout", "--quiet", "--detach", commit)


async def _run_command(
    request: AttemptRequest, commit: str, checkout: Path
) -> tuple[VerificationRun, Artifact]:
    process = await asyncio.create_subprocess_shell(
        request.checks.verification, cwd=checkout, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = [line.split(" ", 1) for line in output.decode().splitlines() if line[:5] in ("PASS ", "FAIL ")]
    known = request.checks.baseline
    excused = known.red if known else frozenset()
    failed = [name for state, name in lines if state == "FAIL"]
    red = tuple(name for name in failed if name not in excused)
    tests = [
        {"id": name, "state": "TEST_STATE_PASSED" if s == "PASS" else "TEST_STATE_FAILED"}
        for s, name in lines
    ]
    report = {"command": request.checks.verification, "commit": commit, "tests": tests}
    run = VerificationRun(
        command=request.checks.verification,
        commit=commit,
        exit_code=process.returncode,
        green=not red,
        summary=f"red: {', '.join(red)}" if red else "",
        passed=len(lines) - len(failed),
        failed=len(failed),
        errors=0,
        skipped=0,
        red_tests=red,
        report_digest="",
        duration=timedelta(seconds=0.1),
        sandbox_mode="none",
        timed_out=False,
    )
    return run, _artifact("test-report", json.dumps(report).encode(), "application/json")


def _told(run: VerificationRun) -> TestsRan:
    return TestsRan(run.passed, run.failed, run.errors, run.skipped, run.duration, run.green)


def _artifact(name: str, data: bytes, media_type: str = "text/plain") -> Artifact:
    return Artifact(name, media_type, len(data), hashlib.sha256(data).hexdigest(), data=data)


async def _git(where: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "git",
        *_IDENTITY,
        *arguments,
        cwd=where,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise AttemptFailed(Outcome.INTERNAL, f"git {arguments[0]}: {complaint.decode()}")
    return output.decode()


@dataclass(slots=True)
class ServedWorker:
    """A scripted worker that is served."""

    name: str
    address: str
    attempts: Attempts
    script: Script


@asynccontextmanager
async def serve_worker(
    script: Script,
    folder: Path,
    *,
    name: str = "worker",
    roles: tuple[str, ...] = ("backend", "frontend", "test"),
    slots: int = 2,
    port: int = 0,
    incarnation: str = "",
    key: str = "",
    pauses: Callable[[], Sequence[Pause]] = lambda: (),
    retention: Retention | None = None,
) -> AsyncIterator[ServedWorker]:
    """Serve a scripted worker on loopback. Leaving kills it and its attempts, as SIGKILL would."""
    settings = ServerSettings("127.0.0.1", port, folder, None, False, "human", "error", 0.0)
    server = Server(settings, ("codeframe.v1.WorkerService",))
    incarnation = incarnation or uuid4().hex
    async with asyncio.TaskGroup() as group, _mortal_group(group) as of_attempts:
        attempts = Attempts(
            of_attempts,
            ScriptedWork(script, folder / incarnation),
            Capability(roles, slots, "none", planners=frozenset({"planner"})),
            SystemClock(),
            incarnation,
            retention,
        )
        identity = Identity(name, "0.1.0", "claude-scripted-1", "", key)
        servicer = WorkerServicer(attempts, identity, pauses)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(servicer, server.grpc)
        await server.start()
        try:
            yield ServedWorker(name, server.address, attempts, script)
        finally:
            await server.grpc.stop(None)


@asynccontextmanager
async def _mortal_group(group: asyncio.TaskGroup) -> AsyncIterator[asyncio.TaskGroup]:
    """A group whose tasks die when this is left."""
    made: asyncio.Future[asyncio.TaskGroup] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        async with asyncio.TaskGroup() as held:
            made.set_result(held)
            await asyncio.Event().wait()

    holder = group.create_task(hold())
    try:
        yield await made
    finally:
        holder.cancel()
