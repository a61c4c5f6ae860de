"""`codeframe up` and the fleet of `run`, with the real servers: what starts, comes back, is left."""

import asyncio
import inspect
import os
import select
import signal
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from codeframe.cli.folder import Up, remember_ports, running
from tests.command import codeframe, told
from tests.server_process import plain_environment

pytestmark = pytest.mark.timeout(180)

PLAN = """\
title: A page
tasks:
- id: page
  title: The page
  description: Make it
  role: backend
  verification: python3 -m pytest
"""


@pytest.fixture
async def state(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[dict[str, str]]:
    """An environment of one's own: no key, a model that never answers, a short drain; nothing is left."""
    environment = plain_environment(
        XDG_STATE_HOME=str(tmp_path / "state"),
        ANTHROPIC_BASE_URL=f"http://127.0.0.1:{unused_tcp_port}",
        CODEFRAME_DRAIN_SECONDS="0.5",
    )
    yield environment
    if up := running(folder(environment)):
        left = everything(up)
        os.kill(up.pid, signal.SIGTERM)
        await left.gone()


def folder(environment: dict[str, str]) -> Path:
    return Path(environment["XDG_STATE_HOME"]) / "codeframe"


def fleet(environment: dict[str, str]) -> Up:
    up = running(folder(environment))
    assert up is not None
    return up


class Watched:
    """Processes by descriptor, so that a number that is taken again is not mistaken."""

    def __init__(self, *pids: int) -> None:
        self._open = [os.pidfd_open(pid) for pid in pids]

    async def gone(self) -> None:
        """Return once all have ended."""
        loop = asyncio.get_running_loop()
        for each in self._open:
            ended = asyncio.Event()
            loop.add_reader(each, ended.set)
            await ended.wait()
            loop.remove_reader(each)
            os.close(each)

    def alive(self) -> bool:
        """Whether none has ended."""
        return not select.select(self._open, [], [], 0)[0]


SERVERS = {"lead", "gateway", "backend", "frontend", "test", "planner"}


def everything(up: Up) -> Watched:
    return Watched(up.pid, *up.pids.values())


async def test_up_keeps_its_servers_at_the_ports_they_had_and_leaves_none(
    state: dict[str, str], unused_tcp_port_factory: Callable[[], int]
) -> None:
    had = {name: unused_tcp_port_factory() for name in sorted(SERVERS)}
    folder(state).mkdir(parents=True)
    remember_ports(folder(state), had)
    async with codeframe("up", "--sandbox", "none", env=state) as up:
        await up.prints("not at Anthropic")
        assert "SANDBOX NONE" in up.out
        first = fleet(state)
        assert first.servers == {name: f"127.0.0.1:{port}" for name, port in had.items()}
        assert (first.pid, first.lead) == (up.process.pid, first.servers["lead"])
        code, out = await told("up", env=state)
        assert code == 1
        assert f"codeframe is up in {folder(state)} already (process {first.pid}, lead {first.lead})" in out

        for name in ("lead", "backend", "gateway"):
            os.kill(first.pids[name], signal.SIGKILL)
        for name in ("lead", "backend", "gateway"):
            await up.prints(f"{name} ended (signal SIGKILL); starting it again")
        for name in ("lead", "backend", "gateway"):
            await up.prints(f"{name} is back at {first.servers[name]}")
        assert fleet(state).servers == first.servers
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"http://{first.gateway}/v1/runs")
        assert answer.json() == {"runs": [], "next_page_token": ""}

        processes = everything(fleet(state))
        up.process.send_signal(signal.SIGTERM)
        assert await up.ends() == 0
        await processes.gone()
    assert not (folder(state) / "up.json").exists()


def repository(where: Path) -> Path:
    where.mkdir()
    (where / "README.md").write_text("a page\n")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), (*author, "commit", "-q", "-m", "base")):
        subprocess.run(["git", *arguments], cwd=where, check=True)
    return where


async def test_a_run_that_is_left_goes_on_and_its_fleet_serves_others(
    state: dict[str, str], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    repo = str(repository(tmp_path / "repo"))
    async with codeframe("run", str(plan), "--repo", repo, "--sandbox", "none", env=state) as run:
        await run.prints("page: in progress, working")
        up = fleet(state)
        run.process.send_signal(signal.SIGINT)
        assert await run.ends() == 130
    assert "Traceback" not in run.out
    assert "starting lead, workers and gateway" in run.out
    assert "SANDBOX NONE" in run.out
    assert "detaching in 5 s" in run.out
    assert "`codeframe down` stops them" in run.out
    processes = everything(up)
    assert processes.alive()
    run_id = run.out.partition("codeframe watch ")[2].partition("`")[0]

    plan.write_text(PLAN.replace("role: backend", "model: nobody-1"))  # only the lead knows prices
    code, out = await told("run", str(plan), "--repo", repo, "--budget", "dollars=1", env=state)
    assert code == 2
    assert f"{plan}:6:10: tasks[0].model: " in out

    async with codeframe("watch", run_id, env=state) as watch:
        await watch.prints("SANDBOX NONE")
        code, out = await told("cancel", run_id, env=state)
        assert (code, out) == (0, f"run {run_id}: CANCELLING\n")
        assert await watch.ends() == 1
        assert f"run {run_id} CANCELLED" in watch.out
    code, out = await told("down", env=state)
    assert (code, out.startswith("stopping the fleet")) == (0, True)
    await processes.gone()


async def test_a_killed_run_takes_its_fleet_along(state: dict[str, str], tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    repo = str(repository(tmp_path / "repo"))
    async with codeframe("run", str(plan), "--repo", repo, "--sandbox", "none", env=state) as run:
        await run.prints("page: ")
        processes = everything(fleet(state))
        run.process.kill()
        await processes.gone()


async def test_a_killed_fleet_takes_its_servers_along_and_its_run_says_so(
    state: dict[str, str], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    repo = str(repository(tmp_path / "repo"))
    async with codeframe("run", str(plan), "--repo", repo, "--sandbox", "none", env=state) as run:
        await run.prints("page: ")
        up = fleet(state)
        processes = everything(up)
        os.kill(up.pid, signal.SIGKILL)
        assert await run.ends() == 1
        assert "`codeframe up` brings them back, and the run goes on" in run.out
        await processes.gone()
    assert running(folder(state)) is None


async def test_a_fleet_that_is_stopping_ends_its_runs_and_takes_no_new_one(
    state: dict[str, str], tmp_path: Path
) -> None:
    state["CODEFRAME_DRAIN_SECONDS"] = "600"
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    repo = str(repository(tmp_path / "repo"))
    async with codeframe("up", "--sandbox", "none", env=state) as up:
        await up.prints("not at Anthropic")
        async with codeframe("run", str(plan), "--repo", repo, env=state) as run:
            await run.prints("page: in progress, working")
            async with codeframe("watch", env=state) as watch:
                await watch.prints("RUNNING: 1 in progress")
                up.process.send_signal(signal.SIGTERM)
                await up.prints("stopping: workers push what they have")
                async with codeframe("run", str(plan), "--repo", repo, "--sandbox", "none", env=state) as new:
                    await new.prints(f"is stopping (process {up.process.pid}); waiting for its end")
                    up.process.send_signal(signal.SIGTERM)
                    assert await up.ends() == 0
                    for follower in (run, watch):
                        assert await follower.ends() == 1
                        assert "`codeframe up` brings them back, and the run goes on" in follower.out
                    await new.prints("page: in progress, working")
                    assert fleet(state).pid != up.process.pid


async def test_no_key_is_said_before_anything_starts(state: dict[str, str], tmp_path: Path) -> None:
    del state["ANTHROPIC_BASE_URL"]
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    repo = repository(tmp_path / "repo")
    code, out = await told("run", str(plan), "--repo", str(repo), env=state)
    assert code == 2
    assert "ANTHROPIC_API_KEY is not set" in out
    assert not (folder(state) / "logs").exists()


async def test_the_wheel_alone_says_where_the_servers_are(state: dict[str, str], tmp_path: Path) -> None:
    """Without site, the editable install's path is not there: what is left is what a wheel holds."""
    package = Path(inspect.getfile(Up)).parents[1]
    for name in ("codeframe", "buf"):
        (tmp_path / name).symlink_to(package.parent / name)
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-S", "-m", "codeframe.cli", "up"),
        env=state | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *paths])},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"the servers are not part of this package: run from a checkout" in errors
