"""A worker as a process of its own, and the scripted Claude that it asks."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codeframe.v1 import worker_pb2, worker_pb2_grpc
from services.runtime.channel import open_channel

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

    process: asyncio.subprocess.Process
    stub: "worker_pb2_grpc.WorkerServiceAsyncStub"
    told: worker_pb2.DescribeWorkerResponse
    log: Path

    def execute(self, request: worker_pb2.ExecuteTaskRequest) -> Any:
        request.incarnation = self.told.incarnation
        return self.stub.ExecuteTask(request, timeout=50)

    async def stopped(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


def command(folder: Path, *flags: str) -> list[str]:
    where = ["--port", "0", "--data-dir", str(folder / "data"), "--ready-file", str(folder / "ready")]
    return [sys.executable, "-m", "services.workers", "--role", "backend", "--name", "w1", *where, *flags]


def environment(claude: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CODEFRAME_")}
    return inherited | {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": claude}


@asynccontextmanager
async def started(
    folder: Path, env: dict[str, str], *flags: str, wrapped: tuple[str, ...] = ()
) -> AsyncIterator[Worker]:
    """A worker, which is killed in the end if it was not stopped."""
    (folder / "ready").unlink(missing_ok=True)
    with (folder / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *wrapped,
            *command(folder, *flags),
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        await eventually(lambda: (folder / "ready").exists() or process.returncode is not None)
        assert process.returncode is None, (folder / "worker.log").read_text()
        async with open_channel((folder / "ready").read_text().strip()) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            told = await stub.DescribeWorker(worker_pb2.DescribeWorkerRequest())
            yield Worker(process, stub, told, folder / "worker.log")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def eventually(condition: Callable[[], Any]) -> None:
    """Return once it holds, which takes a part of a second, or fail."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came to be")
