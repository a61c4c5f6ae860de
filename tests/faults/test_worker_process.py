"""A worker as a process, with the provider's real client: stopped, killed, started without what it needs."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from codeframe.errors import from_rpc_error
from codeframe.v1 import worker_pb2
from services.workers.sandbox import Mode
from services.workers.sandbox.bubblewrap import find_programs
from tests.attempts import outcome, task_request, verify_request
from tests.eventually import eventually
from tests.git_project import bytes_of, files_at, git
from tests.processes import descendants, is_alive
from tests.python_project import python_project
from tests.sandboxes import allows
from tests.server_process import server_command
from tests.worker_process import KEY, Worker, environment, put, script, scripted_claude, started

FILES = {"tests/test_old.py": "def test_old():\n    assert True\n"}
KNOWN = "tests/test_old.py::test_old"
HANGS = (
    "import subprocess, time\n\n\ndef test_hangs():\n"
    "    subprocess.Popen(['setsid', 'sh', '-c', 'sleep 600 & exec sleep 600'])\n"
    "    open('started', 'w').close()\n    time.sleep(600)\n"
)


SCRIPTS = [
    script("plain", put("shop.py", "a = 1\n"), {"say": "Done."}),
    script(
        "stalls", put("shop.py", "a = 1\n"), {"say": "Done.", "faults": [{"stall_after": 1, "times": 100}]}
    ),
    script("hangs", put("tests/test_hangs.py", HANGS), {"say": "I look.", "use": [{"run_tests": None}]}),
]


@pytest.fixture(scope="module")
def claude(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a scripted Claude."""
    with scripted_claude(tmp_path_factory.mktemp("scripts"), SCRIPTS) as url:
        yield url


@pytest.fixture
def project(tmp_path: Path, python: Path) -> Path:
    python_project(tmp_path / "project", python, FILES)
    return tmp_path / "project"


def request(project: Path, marker: str, **asked: Any) -> worker_pb2.ExecuteTaskRequest:
    made = task_request(project, git(project, "rev-parse", "HEAD"), "add", passing=[KNOWN], **asked)
    made.task.description = f"Add it. [script: {marker}]"
    return made


async def reason(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    return f"{error.code.name} {error.reason.removeprefix('ERROR_REASON_')}: {error.message}"


async def test_a_task_is_done_with_the_real_client(tmp_path: Path, project: Path, claude: str) -> None:
    before = bytes_of(project)
    async with started(tmp_path, environment(claude)) as worker:
        assert (worker.told.name, list(worker.told.roles), worker.told.slots) == ("w1", ["backend"], 2)
        assert (worker.told.model, worker.told.model_endpoint) == ("claude-sonnet-5", claude)
        assert len(worker.told.key_fingerprint) == 12
        result = await worker.result(request(project, "plain"))
        assert outcome(result) == "SUCCEEDED", result.message
        assert "shop.py" in files_at(project, result.commit)
        assert (result.usage[0].model, result.usage[0].turns) == ("claude-sonnet-5", 2)
        assert result.usage[0].output_tokens > 0
        assert result.model_endpoint == claude
        assert await worker.server.stop() == 0
    assert bytes_of(project) == before
    assert KEY not in worker.log.read_text()


async def test_a_stopped_worker_hands_its_results_back_first(
    tmp_path: Path, project: Path, claude: str
) -> None:
    async with started(tmp_path, environment(claude), "--drain-seconds", "0.2") as worker:
        call = worker.execute(request(project, "stalls"))
        asked = worker_pb2.WatchAttemptRequest(attempt_id="run.add.1", incarnation=worker.told.incarnation)
        watch = await until_told(worker, asked, "create_file shop.py")
        worker.process.send_signal(signal.SIGTERM)
        result = (await call).result
        assert outcome(result) == "INTERRUPTED"
        assert "shop.py" in files_at(project, result.commit)
        assert git(project, "rev-parse", "codeframe/run/attempts/run.add.1") == result.commit
        rest = [notice.sequence async for batch in watch for notice in batch.notices]
        assert (rest or [result.last_sequence])[-1] == result.last_sequence
        assert await worker.process.wait() == 0
    assert list((tmp_path / "data/attempts").iterdir()) == []


async def until_told(worker: Worker, asked: worker_pb2.WatchAttemptRequest, message: str) -> Any:
    """A watch that was told an activity."""
    await eventually(lambda: is_known(worker, asked.attempt_id))
    watch = worker.stub.WatchAttempt(asked)
    async for batch in watch:
        if any(message in notice.activity_update.message for notice in batch.notices):
            return watch
    raise AssertionError(f"it never told {message!r}")


async def is_known(worker: Worker, attempt_id: str) -> bool:
    """Whether it has started; a watch of an attempt that has not is refused."""
    told = await worker.stub.DescribeWorker(worker_pb2.DescribeWorkerRequest())
    return attempt_id in told.in_flight


async def test_a_killed_worker_leaves_nothing_behind_and_says_what_is_lost(
    tmp_path: Path, project: Path, claude: str
) -> None:
    before = bytes_of(project)
    async with started(tmp_path, environment(claude)) as worker:
        call = worker.execute(request(project, "hangs"))
        await eventually(lambda: list((tmp_path / "data/attempts").glob("*/tree/started")))
        family = descendants(worker.process.pid)
        assert len(family) >= 4  # the subreaper, the tests, and what they started
        worker.process.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await eventually(lambda: not any(map(is_alive, family)))
        lost = worker.told.incarnation
    assert bytes_of(project) == before
    async with started(tmp_path, environment(claude)) as worker:
        assert list((tmp_path / "data/attempts").iterdir()) == []
        again = request(project, "hangs")
        again.incarnation = lost
        assert (await reason(worker.stub.ExecuteTask(again))).startswith(
            "FAILED_PRECONDITION WORKER_RESTARTED"
        )
        result = (await worker.execute(request(project, "plain", attempt_id="run.add.2"))).result
        assert outcome(result) == "SUCCEEDED", result.message


async def test_without_a_key_it_verifies_and_does_no_task(tmp_path: Path, project: Path, claude: str) -> None:
    env = environment(claude)
    del env["ANTHROPIC_API_KEY"]
    async with started(tmp_path, env) as worker:
        assert (worker.told.key_fingerprint, worker.told.model_endpoint) == ("", "")
        refused = await reason(worker.execute(request(project, "plain")))
        assert refused.startswith("FAILED_PRECONDITION NO_MODEL_KEY: ")
        assert "set ANTHROPIC_API_KEY" in refused
        check = verify_request(project, git(project, "rev-parse", "HEAD"))
        check.role = "backend"
        assert outcome((await worker.execute(check)).result) == "SUCCEEDED"


@pytest.mark.skipif(not allows(Mode.BUBBLEWRAP), reason="not allowed on this machine")
async def test_without_a_sandbox_it_says_how_to_get_one(tmp_path: Path, project: Path, claude: str) -> None:
    """Started inside a bubblewrap that allows no other."""
    alone = ("--unshare-user", "--disable-userns", "--dev-bind", "/", "/", "--die-with-parent", "--")
    env = environment(claude)
    async with started(
        tmp_path, env, "--sandbox", "bubblewrap", wrapped=(find_programs()[0], *alone)
    ) as worker:
        assert worker.told.sandbox_mode == ""
        refused = await reason(worker.execute(request(project, "plain")))
        assert refused.startswith("FAILED_PRECONDITION NO_SANDBOX: no sandbox works here")


async def test_unconfined_is_what_the_operator_says_and_every_result_shows(
    tmp_path: Path, project: Path, claude: str
) -> None:
    async with started(tmp_path, environment(claude), "--sandbox", "none") as worker:
        result = await worker.result(request(project, "plain"))
        assert (outcome(result), result.sandbox_mode) == ("SUCCEEDED", "none")
        assert "not confined" in worker.log.read_text()


async def refused_start(folder: Path, *flags: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    command = server_command("services.workers", folder / "data", "--role", "backend", *flags)
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_what_it_cannot_start_with_is_one_clear_line(tmp_path: Path, claude: str) -> None:
    env = environment(claude)
    async with started(tmp_path, env) as alive:
        code, said = await refused_start(tmp_path, env=env)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"worker: another worker uses {tmp_path / 'data'} (process {alive.process.pid}): ")
    assert "--data-dir" in said
    code, said = await refused_start(tmp_path, env=env | {"ANTHROPIC_BASE_URL": "somewhere"})
    assert (code, said.count("\n")) == (1, 1)
    assert "ANTHROPIC_BASE_URL" in said
    code, said = await refused_start(tmp_path, "--label", "bad", env=env)
    assert (code, said) == (2, "error: Invalid value for --label: 'bad' is not KEY=VALUE\n")
