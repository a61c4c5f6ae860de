"""A worker whose model is a script: its server, attempts, git, sandbox and test runner are real."""

import asyncio
import compileall
import os
import shutil
import sys
import venv
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from codeframe.v1 import evidence_pb2, plan_pb2, worker_pb2, worker_pb2_grpc
from services.runtime.channel import open_channel
from services.runtime.git import Git
from services.runtime.process import install_child_watcher
from services.runtime.server import Server
from services.runtime.settings import ServerSettings
from services.workers.attempt import AttemptPerformer, Means
from services.workers.attempts import Attempts, Capability
from services.workers.clock import Clock, SystemClock
from services.workers.data_folder import DataFolder
from services.workers.model.claude import ClaudeModel
from services.workers.model.conversation import Conversation, Reply, Stop, ToolCall, TurnObserver, UserMessage
from services.workers.roles.role import load_role
from services.workers.sandbox import Sandbox
from services.workers.servicer import Identity, WorkerServicer
from services.workers.setup import Setup, find_toolchain
from services.workers.work import ModelUsage
from tests.git_project import git
from tests.wheelhouse import PYTEST

ROLES = ("backend", "frontend", "test", "planner")

Calls = Sequence[tuple[str, dict[str, Any]]]
Step = Calls | Callable[[Conversation], Awaitable[Calls]]
"""A turn: tool calls, none to end the turn; or an async function of the conversation that gives them."""


@dataclass(slots=True)
class ScriptedModel:
    """Says the steps of the task whose id the prompt names, one a turn; after the last, it ends its turn.

    Those of planning are `goal`'s.
    """

    scripts: dict[str, Sequence[Step]] = field(default_factory=dict)
    conversations: list[Conversation] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    async def turn(self, conversation: Conversation, observer: TurnObserver) -> Reply:
        self.conversations.append(conversation)
        said = sum(isinstance(message, Reply) for message in conversation.messages)
        task = prompt(conversation).partition("# Task ")[2].partition(":")[0]
        steps = self.scripts[task or "goal"]
        step: Step = steps[said] if said < len(steps) else ()
        usage = ModelUsage(conversation.model, turns=1, input_tokens=100, output_tokens=10)
        try:
            given = await step(conversation) if callable(step) else step
        except asyncio.CancelledError:
            self.closed.append(task)
            raise
        observer.paid(usage, f"request-{said + 1}")
        calls = tuple(
            ToolCall(f"call-{said}-{number}", name, values) for number, (name, values) in enumerate(given)
        )
        blocks = tuple({"type": "tool_use", "id": c.id, "name": c.name, "input": c.input} for c in calls)
        return Reply(blocks, "", calls, Stop.TOOL_USE if calls else Stop.END_TURN, f"request-{said + 1}")


def prompt(conversation: Conversation) -> str:
    """What the model is told first."""
    return _text(conversation.messages[0])


def last_told(conversation: Conversation) -> str:
    """What the model is told last."""
    return _text(conversation.messages[-1])


def _text(message: UserMessage | Reply) -> str:
    if isinstance(message, Reply):
        return message.text
    return "\n".join([*(result.text for result in message.results), message.text])


def write(path: str, text: str) -> tuple[str, dict[str, Any]]:
    """A call that creates a file."""
    return "create_file", {"path": path, "content": text}


def overwrite(path: str, text: str) -> tuple[str, dict[str, Any]]:
    """A call that writes a file anew."""
    return "write_file", {"path": path, "content": text}


@dataclass(slots=True)
class Worker:
    """A worker's server and a client of it."""

    attempts: Attempts
    model: ScriptedModel
    data: DataFolder
    stub: "worker_pb2_grpc.WorkerServiceAsyncStub"
    address: str

    def execute(self, request: worker_pb2.ExecuteTaskRequest) -> Any:
        request.incarnation = self.attempts.incarnation
        return self.stub.ExecuteTask(request)

    async def result(self, request: worker_pb2.ExecuteTaskRequest) -> evidence_pb2.TaskResult:
        response: worker_pb2.ExecuteTaskResponse = await self.execute(request)
        return response.result

    def watch(self, attempt_id: str, after: int = 0) -> Any:
        return self.stub.WatchAttempt(
            worker_pb2.WatchAttemptRequest(
                attempt_id=attempt_id, incarnation=self.attempts.incarnation, after_sequence=after
            )
        )

    async def notices(self, attempt_id: str) -> list[worker_pb2.Notice]:
        return [notice async for batch in self.watch(attempt_id) for notice in batch.notices]

    async def artifact(self, attempt_id: str, name: str) -> str:
        asked = worker_pb2.WorkerServiceReadArtifactRequest(attempt_id=attempt_id, name=name)
        return b"".join([response.data async for response in self.stub.ReadArtifact(asked)]).decode()

    async def cancel(self, attempt_id: str) -> str:
        asked = worker_pb2.CancelAttemptRequest(attempt_id=attempt_id, incarnation=self.attempts.incarnation)
        return evidence_pb2.Outcome.Name((await self.stub.CancelAttempt(asked)).outcome)


def _wait_for_children_as_a_server_does() -> None:
    install_child_watcher()
    if sys.version_info < (3, 12):
        asyncio.get_child_watcher().attach_loop(asyncio.get_running_loop())


@asynccontextmanager
async def serving(
    folder: Path,
    sandbox: str = "auto",
    slots: int = 4,
    claude: ClaudeModel | None = None,
    clock: Clock | None = None,
    port: int = 0,
) -> AsyncIterator[Worker]:
    """A worker of all roles, whose data is in a folder; it is drained in the end.

    It asks a real client of the provider where there is one, else its scripted model.
    """
    _wait_for_children_as_a_server_does()
    data, clock, model = DataFolder(folder, Git(os.environ)), clock or SystemClock(), ScriptedModel()
    await data.open()
    box = await Sandbox.open(sandbox, scratch=data.scratch, hidden=(data.root, Path.home()))
    means = Means(
        data=data,
        sandbox=box,
        setup=Setup(box, data.environments, find_toolchain(), network=False),
        roles={name: load_role(name) for name in ROLES},
        model=claude or model,
        model_name="claude-scripted",
        model_endpoint="http://127.0.0.1:9",
        clock=clock,
        new_incident=lambda: "1234",
    )
    settings = ServerSettings("127.0.0.1", port, folder, None, False, "human", "error", 1)
    async with asyncio.TaskGroup() as group:
        can = Capability(ROLES, slots, box.mode, planners=frozenset({"planner"}))
        attempts = Attempts(group, AttemptPerformer(means), can, clock, "this-process")
        server = Server(settings, services=("codeframe.v1.WorkerService",))
        identity = Identity("w1", "0.1.0", "claude-scripted", means.model_endpoint, "0123456789ab")
        servicer = WorkerServicer(attempts, identity, (lambda: claude.pauses) if claude else tuple)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(servicer, server.grpc)
        await server.start()
        async with open_channel(server.address) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            yield Worker(attempts, model, data, stub, server.address)
        hastened = asyncio.Event()
        hastened.set()
        await attempts.drain(hastened)
        await server.grpc.stop(None)
    data.close()


def make_python(folder: Path) -> None:
    """A Python environment with pytest in it, made without a network."""
    venv.create(folder, symlinks=True, with_pip=False)
    packages = next(folder.glob("lib/python3*/site-packages"))
    for name in PYTEST:
        for file in distribution(name).files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), packages / file)
    compileall.compile_dir(packages, quiet=2)


def python_project(where: Path, python: Path, files: dict[str, str]) -> str:
    """A repository with a commit of these files, and a Python environment that git ignores; the commit."""
    shutil.copytree(python, where / ".venv", symlinks=True, copy_function=os.link)
    git(where, "init", "--quiet")
    for name, text in {".gitignore": ".venv/\n__pycache__/\n", **files}.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(text)
    git(where, "add", "--all")
    git(where, "commit", "--quiet", "-m", "first")
    return git(where, "rev-parse", "HEAD")


def task_request(
    project: Path,
    base: str,
    task_id: str = "sum",
    *,
    attempt_id: str = "",
    role: str = "backend",
    start: str = "",
    may_change: Sequence[str] = (),
    passing: Sequence[str] = (),
    red: Sequence[str] = (),
    timeout: float = 50,
    test_timeout: float = 30,
    grace: float = 60,
    corrections: int = 3,
    turns: int = 100,
    verification: str = "python -m pytest -q",
) -> worker_pb2.ExecuteTaskRequest:
    """A request to do a task from a base, whose known tests are these; with no verification, UNVERIFIED."""
    attempt_id = attempt_id or f"run.{task_id}.1"
    request = _request(project, base, attempt_id, role, verification, timeout, test_timeout, grace)
    request.limits.corrections, request.limits.turns = corrections, turns
    request.checks.baseline.CopyFrom(worker_pb2.Baseline(passing_tests=passing, red_tests=red))
    request.task.CopyFrom(
        worker_pb2.TaskWork(
            task_id=task_id,
            title=f"The {task_id}",
            description="Do it.",
            number=1,
            base_commit=base,
            start_commit=start,
            branch=f"codeframe/run/attempts/{attempt_id}",
            may_change=[plan_pb2.ProtectedKind.Value(f"PROTECTED_KIND_{kind}") for kind in may_change],
            unverified=not verification,
        )
    )
    if not verification:
        request.ClearField("checks")
    return request


def plan_request(
    project: Path, base: str, goal: str = "Make it so.", *, roles: Sequence[str] = ("backend", "test")
) -> worker_pb2.ExecuteTaskRequest:
    """A request to make a plan of a goal."""
    request = _request(project, base, "run.plan-1", "planner", "", 50, 30, 60)
    request.ClearField("checks")
    request.limits.corrections, request.limits.turns = 3, 100
    request.plan.CopyFrom(worker_pb2.PlanWork(goal=goal, base_commit=base, roles=roles, number=1))
    return request


def verify_request(
    project: Path,
    commit: str,
    *,
    attempt_id: str = "run.verify-1",
    passing: Sequence[str] | None = None,
    red: Sequence[str] = (),
    timeout: float = 50,
    test_timeout: float = 30,
    verification: str = "python -m pytest -q",
) -> worker_pb2.ExecuteTaskRequest:
    """A request to verify a commit; where `passing` is None, as a run's base."""
    request = _request(project, commit, attempt_id, "test", verification, timeout, test_timeout, 60)
    request.verify.CopyFrom(worker_pb2.VerifyWork(commit=commit))
    if passing is not None:
        request.checks.baseline.CopyFrom(worker_pb2.Baseline(passing_tests=passing, red_tests=red))
    return request


def _request(
    project: Path,
    base: str,
    attempt_id: str,
    role: str,
    verification: str,
    timeout: float,
    test_timeout: float,
    grace: float,
) -> worker_pb2.ExecuteTaskRequest:
    limits = worker_pb2.AttemptLimits()
    limits.attempt_timeout.FromTimedelta(timedelta(seconds=timeout))
    limits.test_timeout.FromTimedelta(timedelta(seconds=test_timeout))
    limits.orphan_grace.FromTimedelta(timedelta(seconds=grace))
    setup_paths = [".venv"] if (project / ".venv").exists() else []
    return worker_pb2.ExecuteTaskRequest(
        attempt_id=attempt_id,
        run_id="run",
        role=role,
        repository=str(project),
        run_base_commit=base,
        checks=worker_pb2.Checks(verification=verification, setup_paths=setup_paths),
        limits=limits,
    )


@asynccontextmanager
async def signal_of(place: Path) -> AsyncIterator[asyncio.StreamReader]:
    """What others write to a pipe that is made at a place."""
    os.mkfifo(place)
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(place, os.O_RDONLY | os.O_NONBLOCK), "rb")
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        yield reader
    finally:
        transport.close()


def is_alive(pid: int) -> bool:
    """Whether a process lives; one that is dead but not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(of: int | None = None) -> set[int]:
    """Pids of the living processes below one (default: this)."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state not in "ZX":
                parents[int(name)] = int(parent)
    found: set[int] = set()
    waiting = [of or os.getpid()]
    while waiting:
        above = waiting.pop()
        below = [pid for pid, parent in parents.items() if parent == above]
        found.update(below)
        waiting += below
    return found
