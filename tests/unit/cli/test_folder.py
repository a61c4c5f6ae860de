"""The data folder: one `up` at a time, and how others find it."""

import asyncio
import os
from pathlib import Path

import pytest

from codeframe.cli.folder import (
    FolderHeld,
    Up,
    default_folder,
    holding,
    known_ports,
    remember_ports,
    running,
    tell,
)
from codeframe.cli.key import custom_endpoint, missing_key, without_key, worker_environment
from codeframe.cli.run import find_fleet

UP = Up(pid=os.getpid(), lead="127.0.0.1:1", gateway="127.0.0.1:2", servers={"lead": "127.0.0.1:1"})


async def test_an_up_is_found_while_it_holds_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    assert running(folder) is None
    async with holding(folder):
        assert running(folder) is None
        tell(folder, UP)
        assert running(folder) == UP
    assert running(folder) is None
    assert not (folder / "up.json").exists()


async def test_a_second_up_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    async with holding(tmp_path):
        with pytest.raises(FolderHeld, match="it is starting or stopping"):
            async with holding(tmp_path):
                pass
        tell(tmp_path, UP)
        with pytest.raises(FolderHeld, match=rf"process {os.getpid()}, lead 127.0.0.1:1"):
            async with holding(tmp_path):
                pass
        assert running(tmp_path) == UP


async def test_a_fleet_that_is_starting_is_waited_for(tmp_path: Path) -> None:
    async with holding(tmp_path):
        finding = asyncio.create_task(find_fleet(tmp_path))
        await asyncio.sleep(0)
        assert not finding.done()
        tell(tmp_path, UP)
        assert await finding == UP


async def test_a_fleet_that_did_not_come_up_is_waited_for_no_longer(tmp_path: Path) -> None:
    async with holding(tmp_path):
        finding = asyncio.create_task(find_fleet(tmp_path))
        await asyncio.sleep(0)
        assert not finding.done()
    assert await finding is None


async def test_what_a_killed_up_left_is_not_believed(tmp_path: Path) -> None:
    tell(tmp_path, UP)
    assert running(tmp_path) is None
    async with holding(tmp_path):
        assert running(tmp_path) is None


def test_ports_are_remembered(tmp_path: Path) -> None:
    assert known_ports(tmp_path) == {}
    remember_ports(tmp_path, {"lead": 5})
    assert known_ports(tmp_path) == {"lead": 5}
    (tmp_path / "ports.json").write_text("[]")
    assert known_ports(tmp_path) == {}


@pytest.mark.parametrize(
    ("state", "folder"), [("/s", "/s/codeframe"), ("relative", "/h/.local/state/codeframe")]
)
def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, state: str, folder: str) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_STATE_HOME", state)
    assert default_folder() == Path(folder)


def test_a_key_is_missing_unless_the_endpoint_needs_none() -> None:
    assert "ANTHROPIC_API_KEY is not set" in missing_key({})
    assert missing_key({"ANTHROPIC_API_KEY": "k"}) == ""
    local = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    assert missing_key(local) == ""
    assert worker_environment(local) == {**local, "ANTHROPIC_API_KEY": "none"}
    assert worker_environment({**local, "ANTHROPIC_API_KEY": "k"})["ANTHROPIC_API_KEY"] == "k"
    assert "ANTHROPIC_API_KEY" not in worker_environment({})


def test_only_workers_hold_the_key() -> None:
    environment = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_AUTH_TOKEN": "t", "PATH": "/bin"}
    assert without_key(environment) == {"PATH": "/bin"}


def test_an_endpoint_of_ones_own_is_said() -> None:
    assert custom_endpoint({}) == ""
    assert custom_endpoint({"ANTHROPIC_BASE_URL": "https://api.anthropic.com/"}) == ""
    assert custom_endpoint({"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}) == "http://127.0.0.1:9"
