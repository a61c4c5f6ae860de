"""The demo's processes and repository."""

import asyncio
import os
import signal
from pathlib import Path

import httpx2
import pytest

from demo.failure import DemoFailed
from demo.processes import Stage, scripted_claude, servers, stage_in
from demo.repository import PROJECT, git, make_repository


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return stage_in(tmp_path)


def answers(url: str) -> bool:
    with httpx2.Client(trust_env=False, verify=False) as http:
        return http.get(f"{url}/_scripted/bill").status_code == 200


async def test_a_killed_claude_comes_back_at_its_address(stage: Stage) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    async with scripted_claude(stage, [], said.put_nowait) as claude:
        url, pid = claude.url, claude.pid
        assert answers(url)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            assert "starting it again" in await said.get()
            assert "is back" in await said.get()
        assert claude.pid != pid
        assert answers(url)
        pid = claude.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_claude_that_cannot_start_says_why(stage: Stage) -> None:
    with pytest.raises(DemoFailed, match=r"no-such\.yaml"):
        async with scripted_claude(stage, ["--script", "no-such.yaml"], print):
            pass


async def test_servers_that_cannot_start_say_why(stage: Stage) -> None:
    with pytest.raises(DemoFailed, match="nonsense"):
        async with servers(stage, {}, ["--sandbox", "nonsense"]):
            pass


def test_the_users_own_settings_have_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a real one")
    monkeypatch.setenv("CODEFRAME_WORKERS", "elsewhere:1")
    assert {"ANTHROPIC_API_KEY", "CODEFRAME_WORKERS"}.isdisjoint(stage_in(tmp_path).environment)


async def test_the_repository_is_the_project_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    repository = await make_repository(tmp_path / "repository")
    assert await git(repository, "status", "--porcelain") == ""
    assert await git(repository, "log", "--format=%an: %s") == "codeframe demo: A small shop"
    tracked = await git(Path(__file__).parent, "ls-files", "--full-name", str(PROJECT))
    expected = [path.removeprefix("demo/project/") for path in tracked.splitlines()]
    assert sorted((await git(repository, "ls-files")).splitlines()) == sorted(expected)


async def test_git_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="not a git repository"):
        await git(tmp_path, "status")
