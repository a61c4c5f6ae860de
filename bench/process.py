"""The bench's processes: each says where it serves, and ends with the bench."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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


@asynccontextmanager
async def started(module: str, *arguments: str) -> AsyncIterator[str]:
    """`python -m MODULE ARGUMENTS` for as long as the block lasts; the first line that it says."""
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
        yield said
    finally:
        process.stdin.close()
        await process.wait()
