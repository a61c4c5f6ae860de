"""git that outlives its server's SIGKILL: who starts next lets it end before clearing up."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest

from codeframe.v1 import state_pb2
from tests.attempts import outcome, task_request
from tests.eventually import eventually
from tests.faults.test_lead_faults import LeadProcess
from tests.git_project import branches, git
from tests.held_git import HeldGit
from tests.integration.lead_stage import make_house, task
from tests.python_project import python_project
from tests.server_process import start_server
from tests.worker_process import environment, put, script, scripted_claude, started

WAITS = "a killed process left others running; waiting for their end"


@pytest.fixture(scope="module")
def claude(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a scripted Claude."""
    plain = script("plain", put("shop.py", "a = 1\n"), {"say": "Done."})
    with scripted_claude(tmp_path_factory.mktemp("scripts"), [plain]) as url:
        yield url


@pytest.fixture
def held(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HeldGit]:
    with HeldGit(tmp_path / "bin", request.param) as held:
        yield held


@pytest.mark.parametrize("held", ["read-tree"], indirect=True)
async def test_a_worker_clears_up_once_the_git_of_a_killed_one_has_ended(
    tmp_path: Path, python: Path, claude: str, held: HeldGit
) -> None:
    project = tmp_path / "project"
    python_project(project, python, {"tests/test_old.py": "def test_old():\n    assert True\n"})
    base = git(project, "rev-parse", "HEAD")
    request = task_request(project, base, "add", passing=["tests/test_old.py::test_old"])
    request.task.description = "Add it. [script: plain]"
    env, attempts = environment(claude) | {"PATH": held.path}, tmp_path / "data/attempts"
    async with started(tmp_path, env) as worker:
        call = worker.execute(request)
        await held.reached()
        worker.process.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await worker.process.wait()
    (left,) = attempts.iterdir()
    flags = ("--role", "backend", "--name", "w1")
    again = await start_server("services.workers", tmp_path / "data", *flags, env=env)
    await eventually(lambda: WAITS in again.log.read_text())
    assert left.exists()
    assert not again.ready.exists()
    held.release()
    await again.address()
    assert os.listdir(attempts) == []
    assert await again.stop() == 0
    async with started(tmp_path, env) as worker:
        assert outcome(await worker.result(request)) == "SUCCEEDED"


@pytest.mark.parametrize("held", ["push"], indirect=True)
async def test_a_lead_cleans_its_branches_once_the_push_of_a_killed_one_has_ended(
    tmp_path: Path, held: HeldGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(tmp_path)
    async with house.worker() as worker:
        lead = LeadProcess(house, worker)
        with monkeypatch.context() as patch:
            patch.setenv("PATH", held.path)
            await lead.start()
        call = asyncio.create_task(lead.create(task("a")))
        await held.reached()
        await lead.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        starting = asyncio.create_task(lead.start())
        log = house.folder / "lead.log"
        await eventually(lambda: WAITS in log.read_text())
        assert not starting.done()
        held.release()
        await starting
        run = await lead.create(task("a"))
        assert (await lead.ended(run.run_id)).state == state_pb2.RUN_STATE_COMPLETED
        assert list(branches(house.project)) == [f"codeframe/{run.run_id}/head"]
        await lead.channel.close()
        assert await lead.kill(signal.SIGTERM) == 0
