"""A server as a child process, here the gateway: kept at its address, and never left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from codeframe.cli.child import Child, ServerDied, ServerPlan
from tests.canned_lead import CannedLead, serve


def child_in(folder: Path, said: list[str], *arguments: str, port: int = 0) -> Child:
    plan = ServerPlan("gateway", "gateway", arguments, dict(os.environ))
    return Child(plan, folder, port, said.append)


@asynccontextmanager
async def kept(child: Child) -> AsyncIterator[asyncio.Event]:
    """A child that is kept; the event is set each time it was started again."""
    restarted = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        await child.start()
        group.create_task(child.keep(restarted.set))
        try:
            yield restarted
        finally:
            child.ask_to_stop()
            await child.stopped()


async def test_a_killed_server_comes_back_at_its_address(tmp_path: Path) -> None:
    said: list[str] = []
    child = child_in(tmp_path, said)
    async with kept(child) as restarted:
        address, first = child.address, child.pid
        for round_ in range(2):
            os.kill(child.pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                await restarted.wait()
            restarted.clear()
            assert child.address == address
            ended, back = said[2 * round_ :]
            assert ended.startswith("gateway ended (signal SIGKILL); starting it again in 0.")
            assert back == f"gateway is back at {address}"
        assert child.pid != first
        await asyncio.open_connection("127.0.0.1", child.port)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", child.port)


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    async with serve(CannedLead()) as address:
        port = int(address.rpartition(":")[2])
        child = child_in(tmp_path, [], port=port)
        with pytest.raises(ServerDied) as died:
            await child.start()
    assert f"cannot bind 127.0.0.1:{port}" in str(died.value)
    assert "gateway did not start (exit code 1)" in str(died.value)
    assert str(tmp_path / "logs" / "gateway.log") in str(died.value)
    await child.stopped()


async def test_asked_to_stop_while_it_starts_it_stops(tmp_path: Path) -> None:
    said: list[str] = []
    child = child_in(tmp_path, said)
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(child.start())
        await asyncio.sleep(0)
        child.ask_to_stop()
        await starting
        await child.stopped()
    assert said == []


async def test_a_long_log_is_set_aside(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "gateway.log").write_bytes(b"x" * (8 * 1024 * 1024 + 1))
    async with kept(child_in(tmp_path, [])):
        assert (logs / "gateway.log").stat().st_size < 100_000
        assert (logs / "gateway.log.1").stat().st_size == 8 * 1024 * 1024 + 1
