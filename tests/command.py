"""The command line as a process that a test reads."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.server_process import plain_environment


class Command:
    """A running `codeframe`, with what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out = ""

    async def prints(self, text: str) -> None:
        """Return once it has printed a text."""
        assert self.process.stdout is not None
        while text not in self.out:
            line = await self.process.stdout.readline()
            assert line, f"it ended without {text!r}:\n{self.out}"
            self.out += line.decode()

    async def ends(self) -> int:
        """Its exit code."""
        assert self.process.stdout is not None
        self.out += (await self.process.stdout.read()).decode()
        return await self.process.wait()


@asynccontextmanager
async def codeframe(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[Command]:
    """`codeframe ARGUMENTS`, which is killed at the end of the block if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "codeframe.cli", *arguments),
        cwd=cwd,
        env=plain_environment() if env is None else env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    started = Command(process)
    try:
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await started.ends()
        print(f"$ codeframe {' '.join(arguments)}\n{started.out}")  # shown where the test fails


async def told(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code of `codeframe ARGUMENTS`, and what it prints."""
    async with codeframe(*arguments, env=env) as command:
        return await command.ends(), command.out
