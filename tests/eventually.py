"""What nothing signals: a process that is nobody's child here, a file or an answer of another process."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

EVERY = 0.02
MOST = 90.0
"""Seconds between two looks, and until the last."""


async def eventually(true: Callable[[], Any]) -> None:
    """Return once it is true, or its answer is where it is awaited. Where there is a signal, await that."""
    clock = asyncio.get_running_loop().time
    end = clock() + MOST
    while True:
        found = true()
        if await found if inspect.isawaitable(found) else found:
            return
        assert clock() < end, "it does not come true"
        await asyncio.sleep(EVERY)
