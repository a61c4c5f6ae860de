"""`python -m gateway` as a process: how it starts, tells where it answers, and stops."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from codeframe.v1 import lead_pb2
from tests.canned_lead import CannedLead, serve


@asynccontextmanager
async def started(*arguments: str, stdin: int | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gateway", *arguments),
        stdin=stdin,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        _, said = await process.communicate()
        print((said or b"").decode())  # shown where the test fails


async def address_of(process: asyncio.subprocess.Process) -> str:
    """Where it says that it serves."""
    assert process.stderr is not None
    async for line in process.stderr:
        print(line.decode(), end="")
        if b"http://" in line:
            return line.decode().partition("http://")[2].split()[0].split("\x1b")[0]
    raise AssertionError("it ended without serving")


@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_and_stops(tmp_path: Path, word: signal.Signals) -> None:
    lead = CannedLead(runs=[lead_pb2.Run(run_id="r")])
    ready = tmp_path / "ready"
    async with (
        serve(lead) as address,
        started(
            *("--lead", address, "--port", "0", "--data-dir", str(tmp_path), "--ready-file", str(ready))
        ) as gateway,
    ):
        served = await address_of(gateway)
        async with httpx2.AsyncClient(base_url=f"http://{served}", trust_env=False) as http:
            assert (await http.get("/v1/runs")).json()["runs"][0]["run_id"] == "r"
        assert ready.read_text() == f"{served}\n"
        gateway.send_signal(word)
        assert await gateway.wait() == 0
        assert not ready.exists()


async def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    arguments = ("--port", "0", "--data-dir", str(tmp_path), "--exit-with-parent")
    async with started(*arguments, stdin=asyncio.subprocess.PIPE) as gateway:
        await address_of(gateway)
        assert gateway.stdin is not None
        gateway.stdin.close()
        assert await gateway.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--port", "{taken}"], 1, "gateway: cannot bind 127.0.0.1:{taken}: Address already in use"),
        (["--lead", "nowhere"], 2, "nowhere is not HOST:PORT"),
        (["--host", "0.0.0.0"], 2, "0.0.0.0 is not a loopback address"),
        (["--max-streams", "0"], 2, "'--max-streams'"),
    ],
)
async def test_what_keeps_it_from_starting_is_one_line(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    async with serve(CannedLead()) as address:
        taken = address.rpartition(":")[2]
        given = [each.format(taken=taken) for each in arguments]
        async with started("--data-dir", str(tmp_path), *given) as gateway:
            _, errors = await gateway.communicate()
    assert gateway.returncode == code
    assert said.format(taken=taken) in errors.decode()
    assert len(errors.decode().splitlines()) == 1
