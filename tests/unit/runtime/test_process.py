"""A server's life as a process: ready, stopping in two stages, ending with its parent."""

import asyncio
import os
import re
import signal
import sys
import textwrap
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.channel import open_channel

SERVICE = """
import asyncio, click, gc, time
from services.runtime.process import CannotStart, run_process
from services.runtime.server import Server
from services.runtime.settings import ServerCommand, server_options

@click.command(cls=ServerCommand)
@click.option("--ending", default="hastened")
@server_options(port=0, data_dir="example")
def main(settings, ending):
    \"""An example of a service.\"""
    run_process("example", serve(settings, ending), settings)

async def serve(settings, ending):
    if ending == "refused":
        raise CannotStart("no peer at nowhere; start it, or say --peer")
    if ending == "blocked":
        await asyncio.sleep(0)
        time.sleep(0.8)
        return
    if ending == "collections":
        raise CannotStart(f"{gc.get_freeze_count() > 10_000} {gc.get_threshold()[0] > 700}")
    if ending == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse())
            group.create_task(asyncio.Event().wait())

    async def drain(hastened):
        print("draining", flush=True)
        await hastened.wait()
        print("hastened", flush=True)

    await Server(settings, services=("x.Y",)).run(drain)

async def refuse():
    raise CannotStart("the journal is locked by another lead")

main()
"""

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Process] = []

    async def start(*arguments: str, **settings: Any) -> Process:
        folders = ("--data-dir", str(tmp_path / "data"), "--ready-file", str(tmp_path / "ready"))
        command = (sys.executable, "-P", "-c", SERVICE, *folders, *arguments)
        settings = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "cwd": tmp_path, **settings}
        started.append(await asyncio.create_subprocess_exec(*command, **settings))
        return started[-1]

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    return (await stream.readline()).decode()


async def serving(process: Process) -> None:
    assert " serving " in await line(process.stderr)


async def test_a_stop_has_two_stages_and_health_says_so(start: Start, tmp_path: Path) -> None:
    process = await start()
    await serving(process)
    async with open_channel((tmp_path / "ready").read_text().strip()) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="x.Y")
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        process.send_signal(signal.SIGTERM)
        assert await line(process.stdout) == "draining\n"
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        process.send_signal(signal.SIGTERM)
        assert await line(process.stdout) == "hastened\n"
    assert await process.wait() == 0
    assert not (tmp_path / "ready").exists()


async def test_the_drain_is_hastened_when_its_time_is_over(start: Start) -> None:
    process = await start("--drain-seconds", "0.1")
    await serving(process)
    process.send_signal(signal.SIGINT)
    assert await line(process.stdout) == "draining\n"
    assert await line(process.stdout) == "hastened\n"
    assert await process.wait() == 0


async def test_a_server_ends_with_its_parent_however_that_ended(start: Start) -> None:
    process = await start("--exit-with-parent", "--drain-seconds", "0", stdin=PIPE)
    await serving(process)
    assert process.stdin is not None
    process.stdin.write(b"what the parent says is not read\n")
    process.stdin.close()
    assert await line(process.stdout) == "draining\n"
    assert await process.wait() == 0


async def test_a_server_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    middle = textwrap.dedent(
        """
        import subprocess, sys
        child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
        child.wait()
        """
    )
    read, write = os.pipe()
    arguments = ("--data-dir", str(tmp_path), "--exit-with-parent", "--drain-seconds", "0")
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", middle, sys.executable, "-c", SERVICE, *arguments, stdout=write, stderr=PIPE
    )
    os.close(write)
    told = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(told), os.fdopen(read, "rb")
    )
    await serving(parent)
    parent.kill()
    assert await told.readline() == b"draining\n"
    assert await told.readline() == b"hastened\n"
    assert await told.readline() == b""  # the server held this pipe: now it has ended
    transport.close()
    await parent.wait()


async def test_a_parent_that_holds_no_pipe_is_told(start: Start) -> None:
    process = await start("--exit-with-parent")
    _, told = await process.communicate()
    assert told.decode().splitlines()[-1] == (
        "example: --exit-with-parent needs a pipe as standard input, held open by the parent"
    )
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("refused", "example: no peer at nowhere; start it, or say --peer\n"),
        ("group", "example: the journal is locked by another lead\n"),
    ],
)
async def test_what_cannot_start_is_one_line_and_exit_code_1(start: Start, ending: str, told: str) -> None:
    process = await start("--ending", ending)
    out, err = await process.communicate()
    assert (process.returncode, out.decode(), err.decode()) == (1, "", told)


async def test_a_second_server_on_the_port_is_one_line_and_exit_code_1(start: Start, tmp_path: Path) -> None:
    first = await start()
    await serving(first)
    address = (tmp_path / "ready").read_text().strip()
    second = await start("--port", address.rsplit(":", 1)[1])
    _, err = await second.communicate()
    assert err.decode().splitlines()[-1] == (
        f"example: cannot bind {address}: it is taken or not allowed; choose another with --port"
    )
    assert second.returncode == 1
    assert (tmp_path / "ready").exists(), "the first server's ready file stays"
    async with grpc.aio.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest())


@pytest.mark.parametrize(
    ("flags", "variables", "told"),
    [
        (["--host", "0.0.0.0"], {}, "0.0.0.0 is not a loopback address"),
        ([], {"CODEFRAME_HOST": "example.org"}, "example.org is not a loopback address"),
        (["--port", "70000"], {}, "'--port'"),
        (["--data-dir", "/dev/null/x"], {}, "--data-dir: cannot make /dev/null/x: Not a directory."),
        (["--log-level", "loud"], {}, "'--log-level'"),
        (["--hots", "::1"], {}, "--hots"),
    ],
)
async def test_a_bad_setting_is_one_line_and_exit_code_2(
    start: Start, flags: list[str], variables: dict[str, str], told: str
) -> None:
    process = await start(*flags, env={**os.environ, **variables})
    out, err = await process.communicate()
    lines = err.decode().splitlines()
    assert (process.returncode, out, len(lines)) == (2, b"", 1)
    assert lines[0].startswith("error: ")
    assert told in lines[0]


async def test_help_names_every_flag_with_its_variable(start: Start) -> None:
    process = await start("--help")
    out, _ = await process.communicate()
    assert process.returncode == 0
    for flag in ("host", "port", "data-dir", "ready-file", "exit-with-parent", "log-format", "log-level"):
        assert f"--{flag}" in out.decode()
        assert f"CODEFRAME_{flag.upper().replace('-', '_')}" in out.decode()


async def test_where_it_stands_is_told_on_a_signal_and_it_goes_on(start: Start) -> None:
    process = await start()
    await serving(process)
    assert process.stderr is not None
    process.send_signal(signal.SIGUSR1)
    said = ""
    while "in Server.run" not in said:
        said += await line(process.stderr)
    # Which thread the kernel interrupts for it is its own choice, also one that is not Python's.
    assert said.count("(most recent call first)") == 2, "the loop's thread and gRPC's"
    assert "in run_process" in said
    assert "task Task-" in said
    process.send_signal(signal.SIGTERM)
    assert await line(process.stdout) == "draining\n"


async def test_a_loop_that_is_held_up_says_so(start: Start) -> None:
    process = await start("--ending", "blocked")
    assert process.stderr is not None
    said = (await process.stderr.read()).decode()
    found = re.search(r"the event loop was held up +seconds=([\d.]+)", said)
    assert found, said
    assert float(found[1]) > 0.5


async def test_what_was_imported_is_never_collected_and_the_rest_less_often(start: Start) -> None:
    process = await start("--ending", "collections")
    assert process.stderr is not None
    assert "True True" in (await process.stderr.read()).decode()
