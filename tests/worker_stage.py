"""A worker whose model is a script: its server, attempts, git, sandbox and test runner are real."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codeframe.v1 import evidence_pb2, worker_pb2, worker_pb2_grpc
from services.runtime.channel import open_channel
from services.runtime.git import Git
from services.runtime.process import install_child_watcher
from services.runtime.server import Server
from services.runtime.settings import ServerSettings
from services.workers.attempt import AttemptPerformer, Means
from services.workers.attempts import Attempts, Capability
from services.workers.clock import Clock, SystemClock
from services.workers.model.claude import ClaudeModel
from services.workers.model.conversation import Conversation, Reply, Stop, ToolCall, TurnObserver, UserMessage
from services.workers.roles.role import load_role
from services.workers.sandbox import Sandbox
from services.workers.servicer import Identity, WorkerServicer
from services.workers.setup import Setup, find_toolchain
from services.workers.work import ModelUsage
from services.workers.workspace import DataFolder

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
        key = claude.key_fingerprint if claude else "0123456789ab"
        identity = Identity("w1", "0.1.0", "claude-scripted", means.model_endpoint, key)
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
