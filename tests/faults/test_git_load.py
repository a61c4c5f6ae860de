"""Fifty attempts at once on one repository: some cancelled, their worker killed, all at random moments."""

import asyncio
import json
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import grpc.aio
import pytest

from codeframe.v1 import evidence_pb2, worker_pb2
from tests.attempts import task_request
from tests.eventually import eventually
from tests.git_project import branches, bytes_of, git, make_project
from tests.processes import descendants, is_alive
from tests.worker_process import Worker, environment, put, script, scripted_claude, started

ATTEMPTS = 50
FILES = {
    f"src/{folder}/{name}.py": f"{name} = {folder}\n" * 20 for folder in range(20) for name in "abcdefghij"
}
SCRIPTS = [
    script("writes", put("one.py", "one = 1\n"), put("two.py", "two = 2\n"), {"say": "Done."}),
    script(
        "waits", put("one.py", "one = 1\n"), {"say": "Done.", "faults": [{"stall_after": 1, "times": 500}]}
    ),
]


@pytest.fixture(scope="module")
def claude(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scripted_claude(tmp_path_factory.mktemp("scripts"), SCRIPTS) as url:
        yield url


@pytest.fixture
def project(tmp_path: Path) -> Path:
    make_project(tmp_path / "project", FILES)
    return tmp_path / "project"


def asked(project: Path, number: int, marker: str) -> worker_pb2.ExecuteTaskRequest:
    """A task that nothing verifies: what is under load is git."""
    base = git(project, "rev-parse", "HEAD")
    made = task_request(project, base, "add", attempt_id=f"run.add.{number}", verification="")
    made.task.description = f"Add it. [script: {marker}]"
    return made


async def outcome(worker: Worker, request: worker_pb2.ExecuteTaskRequest) -> str:
    """How an attempt ended; LOST where its worker died."""
    try:
        result: evidence_pb2.TaskResult = (await worker.execute(request)).result
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return "LOST"
    return evidence_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_")


async def cancel(worker: Worker, number: int) -> None:
    asked = worker_pb2.CancelAttemptRequest(
        attempt_id=f"run.add.{number}", incarnation=worker.told.incarnation
    )
    with suppress(grpc.aio.AioRpcError):  # the worker may be killed first
        await worker.stub.CancelAttempt(asked)


def written(data: Path) -> int:
    """How many workspaces hold a file of an agent's."""
    return len(list(data.glob("attempts/*/tree/one.py")))


def locks(folder: Path) -> list[Path]:
    return [
        path for path in folder.rglob("*") if path.name.endswith((".lock", ".index")) or "tmp_" in path.name
    ]


@pytest.mark.timeout(300)
async def test_attempts_cancelled_and_killed_leave_nothing_stray_and_lose_no_work(
    tmp_path: Path, project: Path, claude: str
) -> None:
    seed = int(time.time())
    print(f"seed {seed}")
    chance = random.Random(seed)
    before = bytes_of(project)
    data, env = tmp_path / "data", environment(claude)
    fates = [chance.choice(("writes", "writes", "waits")) for _ in range(ATTEMPTS)]
    async with started(tmp_path, env, "--slots", str(ATTEMPTS), "--sandbox", "none") as worker:
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(outcome(worker, asked(project, number, marker)))
                for number, marker in enumerate(fates)
            ]
            await eventually(lambda: written(data) + sum(task.done() for task in running) >= 5)
            for number in chance.sample(range(ATTEMPTS), 10):
                group.create_task(cancel(worker, number))
            due = chance.randint(10, 35)
            await eventually(lambda: sum(task.done() for task in running) + written(data) >= due)
            worker.process.send_signal(signal.SIGSTOP)  # it starts no child that is not looked at
            family = descendants(worker.process.pid)
            worker.process.kill()
        ended = [task.result() for task in running]
        await eventually(lambda: not any(map(is_alive, family)))
    print({fate: ended.count(fate) for fate in sorted(set(ended))})
    assert set(ended) <= {"SUCCEEDED", "CANCELLED", "LOST"}
    assert "LOST" in ended

    left = {
        json.loads(note.read_text())["branch"]
        for note in data.glob("attempts/*/work.json")
        if (note.parent / "tree/one.py").exists()
    }
    pushed = branches(project)
    async with started(tmp_path, env, "--slots", "4", "--sandbox", "none") as worker:
        assert list((data / "attempts").iterdir()) == []
        (clone,) = (data / "repositories").iterdir()
        assert locks(data) == []
        kept = git(clone, "for-each-ref", "--format=%(refname)", "refs/codeframe/kept").splitlines()
        for ref in kept:
            assert "one.py" in git(clone, "ls-tree", "--name-only", ref).splitlines()
        log = worker.log.read_text()
        assert log.count("was not pushed as its worker was killed") == len(kept)
        # Whoever had written a file when the worker died has it on a branch, or under a ref that is told.
        told = {ref.replace("refs/codeframe/kept/", "codeframe/") for ref in kept}
        assert left <= told | pushed.keys()
        again = await asyncio.gather(*(outcome(worker, asked(project, 100 + n, "writes")) for n in range(4)))
        assert again == ["SUCCEEDED"] * 4
        assert await worker.server.stop() == 0
    for commit in branches(project).values():
        assert "one.py" in git(project, "ls-tree", "--name-only", commit).splitlines()
    for number, how in enumerate(ended):
        if how == "SUCCEEDED":
            assert f"codeframe/run/attempts/run.add.{number}" in pushed
    git(project, "fsck", "--strict", "--no-dangling")
    git(clone, "fsck", "--no-dangling")
    assert locks(project / ".git") == []
    assert bytes_of(project) == before
