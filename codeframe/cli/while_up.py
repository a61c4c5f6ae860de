"""Doing something with servers for as long as their `up` lasts: without it, nobody answers again."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from codeframe.cli.failure import CommandFailed
from codeframe.cli.folder import Up
from codeframe.cli.process_end import process_ended

T = TypeVar("T")
Stopped = Callable[[], Awaitable[CommandFailed]]
"""Returns once an `up` has ended, with what to say."""

STOPPED = "the servers were stopped; `codeframe up` brings them back, and the run goes on"


async def while_up(doing: Coroutine[Any, Any, T], stopped: Stopped | None) -> T:
    """What comes of doing it. Raises CommandFailed where the `up` ends before; None is servers elsewhere."""
    if stopped is None:
        return await doing
    async with asyncio.TaskGroup() as group:
        done, breaking = group.create_task(doing), group.create_task(_said(stopped))
        await asyncio.wait({done, breaking}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise breaking.result()
        breaking.cancel()
    return done.result()


async def _said(stopped: Stopped) -> CommandFailed:
    return await stopped()


def ending_of(up: Up | None) -> Stopped | None:
    """How one hears of the end of an `up` that somebody else has started; None where there is none."""
    if up is None:
        return None

    async def stopped() -> CommandFailed:
        await process_ended(up.pid)
        return CommandFailed(STOPPED)

    return stopped
