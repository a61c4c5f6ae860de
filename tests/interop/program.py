"""A client as a program that says lines of JSON."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

Line = dict[str, Any]

SILENCE = 60.0
"""Seconds without a line after which nothing more is to come. How long a run takes, the machine decides."""


class Program:
    """A client that runs; `lines` are what it said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._changed = asyncio.Condition()
        self._ended = False
        self.lines: list[Line] = []
        self.complaint = ""

    def said(self, name: str) -> list[Any]:
        """What it said under a name."""
        return [line[name] for line in self.lines if name in line]

    async def until(self, true: Callable[["Program"], bool]) -> None:
        """Return once it has said enough. Raises AssertionError where it ends or falls silent without."""
        said = -1
        while said < len(self.lines) and not (self._ended or true(self)):
            said = len(self.lines)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SILENCE), self._changed:
                    await self._changed.wait_for(lambda: self._ended or true(self))
        last = "\n".join(map(json.dumps, self.lines[-20:]))
        assert true(self), f"it {'ended' if self._ended else 'is silent'}: {self.complaint}\n{last}"

    async def ended(self) -> int:
        """Its exit code, once all it said was read."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended)
        return await self._process.wait()

    async def read(self) -> None:
        """Read what it says, to its end."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        async with asyncio.TaskGroup() as group:
            complaining = group.create_task(self._process.stderr.read())
            async for line in self._process.stdout:
                async with self._changed:
                    self.lines.append(json.loads(line))
                    self._changed.notify_all()
        async with self._changed:
            self.complaint, self._ended = complaining.result().decode(), True
            self._changed.notify_all()


@asynccontextmanager
async def running(command: Sequence[str], *arguments: str) -> AsyncIterator[Program]:
    """Run a client; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**20
    )
    program = Program(process)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(program.read())
            try:
                yield program
            finally:
                if process.returncode is None:
                    process.kill()
    finally:
        await process.wait()
