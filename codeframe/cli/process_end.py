"""Waiting for a process to end, whoever started it."""

import asyncio
import os


async def process_ended(pid: int) -> None:
    """Return once a process has ended; at once where there is none of that number."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
