"""A worker as a process of its own, and the scripted Claude that it asks."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codeframe.v1 import evidence_pb2, worker_pb2, worker_pb2_grpc
from services.runtime.channel import open_channel
from tests.server_process import ServerProcess, plain_environment, start_server

KEY = "scripted-key"


def script(marker: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"marker": marker, "steps": [{"when": {"turn": n}, **step} for n, step in enumerate(steps, 1)]}


def put(path: str, content: str) -> dict[str, Any]:
    return {"say": "I write it.", "use": [{"put_file": {"path": path, "content": content}}]}


@contextmanager
def scripted_claude(folder: Path, scripts: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The URL of a scripted Claude that says these."""
    for number, one in enumerate(scripts):
        (folder / f"{number}.yaml").write_text(yaml.safe_dump(one))
    command = [sys.executable, "-m", "demo.claude", "--script", str(folder)]
    with (
        (folder / "claude.log").open("ab") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@dataclass(slots=True)
class Worker:
    """A worker's process, and a client of it."""

    server: ServerProcess
    stub: "worker_pb2_grpc.WorkerServiceAsyncStub"
    told: worker_pb2.DescribeWorkerResponse

    @property
    def process(self) -> asyncio.subprocess.Process:
        return self.server.process

    @property
    def log(self) -> Path:
        return self.server.log

    def execute(self, request: worker_pb2.ExecuteTaskRequest) -> Any:
        request.incarnation = self.told.incarnation
        return self.stub.ExecuteTask(request, timeout=110)

    async def result(self, request: worker_pb2.ExecuteTaskRequest) -> evidence_pb2.TaskResult:
        response: worker_pb2.ExecuteTaskResponse = await self.execute(request)
        return response.result

    async def artifact(self, attempt_id: str, name: str) -> bytes:
        asked = worker_pb2.WorkerServiceReadArtifactRequest(attempt_id=attempt_id, name=name)
        return b"".join([response.data async for response in self.stub.ReadArtifact(asked)])


def environment(claude: str) -> dict[str, str]:
    """What a worker needs to ask a scripted Claude."""
    return plain_environment(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=claude)


@asynccontextmanager
async def started(
    folder: Path, env: Mapping[str, str], *flags: str, role: str = "backend", wrapped: tuple[str, ...] = ()
) -> AsyncIterator[Worker]:
    """A worker that stands in a folder, with its data below it. If it was not stopped it is killed."""
    named = ("--role", role, "--name", "w1")
    server = await start_server(
        "services.workers", folder / "data", *named, *flags, env=env, wrapped=wrapped, cwd=folder
    )
    try:
        async with open_channel(await server.address()) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            told = await stub.DescribeWorker(worker_pb2.DescribeWorkerRequest())
            yield Worker(server, stub, told)
    finally:
        await server.stop(kill=True)
