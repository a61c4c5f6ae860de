"""A worker as the process that an operator starts, which hostile tests know and are after."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from codeframe.v1 import evidence_pb2, worker_pb2, worker_pb2_grpc
from services.runtime.channel import open_channel
from services.workers.sandbox import Mode


@dataclass(slots=True)
class WorkerProcess:
    """The process, and a client of it."""

    process: asyncio.subprocess.Process
    stub: "worker_pb2_grpc.WorkerServiceAsyncStub"
    incarnation: str
    sandbox_mode: str

    async def result(self, request: worker_pb2.ExecuteTaskRequest) -> evidence_pb2.TaskResult:
        request.incarnation = self.incarnation
        response: worker_pb2.ExecuteTaskResponse = await self.stub.ExecuteTask(request, timeout=110)
        return response.result

    async def artifact(self, attempt_id: str, name: str) -> bytes:
        asked = worker_pb2.WorkerServiceReadArtifactRequest(attempt_id=attempt_id, name=name)
        return b"".join([response.data async for response in self.stub.ReadArtifact(asked)])

    async def told(self, attempt_id: str, result: evidence_pb2.TaskResult) -> str:
        """All that leaves the worker: the result, and every artifact."""
        parts = [str(result).encode()]
        parts += [await self.artifact(attempt_id, artifact.name) for artifact in result.artifacts]
        return b"\n".join(parts).decode(errors="replace")


@asynccontextmanager
async def worker_process(folder: Path, mode: Mode, env: Mapping[str, str]) -> AsyncIterator[WorkerProcess]:
    """A worker that stands in `folder`, with its data and its log; it is stopped in the end."""
    ready = folder / "ready"
    flags = ("--role", "test", "--name", "w", "--sandbox", mode.value, "--no-setup-network", "--port", "0")
    places = ("--data-dir", str(folder / "data"), "--ready-file", str(ready))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CODEFRAME_")}
    with (folder / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "services.workers", *flags, *places),
            cwd=folder,
            env=inherited | dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(60):
            while not ready.exists():
                assert process.returncode is None, (folder / "worker.log").read_text()
                await asyncio.sleep(0.02)
        async with open_channel(ready.read_text().strip()) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            told = await stub.DescribeWorker(worker_pb2.DescribeWorkerRequest())
            yield WorkerProcess(process, stub, told.incarnation, told.sandbox_mode)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
