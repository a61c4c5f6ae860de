"""A trusted child process (git, rm): in a process group of its own, bounded, never outliving its caller."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 16
_STDERR_LIMIT = 1 << 16
_GENTLE = 2.0  # seconds between SIGTERM, at which git removes its lock files, and SIGKILL


class ChildError(Exception):
    """The child could not be started, or took too long."""


@dataclass(frozen=True, slots=True)
class ChildAnswer:
    """How a child ended. `exit_code` is negative where a signal ended it.

    `clipped`: it wrote more than was asked for, and was ended for it; `stdout` holds the beginning.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    clipped: bool = False


async def run_child(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes = b"",
    limit: int = 64 << 20,
    timeout: float = 300.0,
    sink: Callable[[bytes], None] | None = None,
    inherits: Sequence[int] = (),
) -> ChildAnswer:
    """Run a program to its end, with at most `limit` bytes of its stdout kept and `timeout` in seconds.

    With a `sink`, its stdout is handed to that piece by piece, however long it is, and none is kept. Of our
    descriptors it inherits those of `inherits` alone.
    Returns, or raises on cancellation, only once the program is dead, and its process group was told to die.
    Raises ChildError where it cannot be started or takes too long.
    """
    process = await _start(argv, cwd, env, inherits)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            group.create_task(_feed(process.stdin, stdin))
            complaint = group.create_task(_drain(process.stderr, _STDERR_LIMIT))
            if sink is not None:
                await _pour(process.stdout, sink)
            stdout = await _read(process.stdout, limit + 1)
            if len(stdout) > limit:
                _signal(process, signal.SIGKILL)
            exit_code = await process.wait()
    except TimeoutError:
        raise ChildError(f"{argv[0]} did not end within {timeout:g} s") from None
    finally:
        await _end(process)
    return ChildAnswer(exit_code, stdout[:limit], complaint.result(), len(stdout) > limit)


async def _start(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], inherits: Sequence[int]
) -> asyncio.subprocess.Process:
    """Start a program. Cancelled, it ends it and all that it started; asyncio would end it alone."""
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            pass_fds=inherits,
        )
    )
    try:
        return await asyncio.shield(starting)
    except OSError as error:
        raise ChildError(f"cannot run {argv[0]} in {cwd}: {error.strerror}") from None
    except asyncio.CancelledError:
        while not starting.done():  # soon, and however often this is cancelled
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([starting])
        if starting.exception() is None:
            await _end(starting.result())
        raise


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    try:
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it did not want all of it; its exit code says whether that was right


async def _read(stream: asyncio.StreamReader, limit: int) -> bytes:
    """The first `limit` bytes."""
    data = bytearray()
    while len(data) < limit and (piece := await stream.read(min(_CHUNK, limit - len(data)))):
        data += piece
    return bytes(data)


async def _pour(stream: asyncio.StreamReader, sink: Callable[[bytes], None]) -> None:
    while piece := await stream.read(_CHUNK):
        sink(piece)


async def _drain(stream: asyncio.StreamReader, keep: int) -> bytes:
    """The first `keep` bytes, once all were read."""
    data = await _read(stream, keep)
    while await stream.read(_CHUNK):
        pass
    return data


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(_GENTLE):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _signal(process, signal.SIGKILL)  # also what it started and left behind
        await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
