"""The bench's processes: each says where it serves, and ends with the bench."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.runtime.settings import ServerSettings

SETTINGS = ServerSettings("127.0.0.1", 0, Path(), None, False, "human", "warning", 0.0)
"""Those of every server of the bench."""


async def until_parent_ends() -> None:
    """Return once standard input ends."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(0, 1024):
            ended.set()

    loop.add_reader(0, read)
    await ended.wait()
    loop.remove_reader(0)


@dataclass(frozen=True, slots=True)
class Started:
    """A process that serves, and the first line that it said."""

    pid: int
    said: str

    def cpu_seconds(self) -> float:
        """The processor time that it has taken, by all its threads."""
        times = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def started(module: str, *arguments: str) -> AsyncIterator[Started]:
    """`python -m MODULE ARGUMENTS` for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = (await process.stdout.readline()).decode().strip()
        if not said:
            raise RuntimeError(f"{module} ended before it served")
        yield Started(process.pid, said)
    finally:
        process.stdin.close()
        await process.wait()
