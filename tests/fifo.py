"""A named pipe as a signal from a process of the tests: it opens it once it is as far as it should be."""

import asyncio
import os
from pathlib import Path


async def opened(fifo: Path, *, seconds: float = 60) -> None:
    """Return once some process has opened the pipe for writing. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    loop.add_reader(fd, ready.set)
    try:
        async with asyncio.timeout(seconds):
            await ready.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
