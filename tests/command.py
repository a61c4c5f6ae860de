"""The command line as a process that a test reads."""

import asyncio


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
