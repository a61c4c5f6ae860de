"""What all open streams share: their bound, and the wish to stop."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc

from codeframe.client import CodeframeError

LAST_WORD_SECONDS = 1.0
"""What a stream's reader gets to take its end."""


class Streams:
    """Counts the open streams, and ends them together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open = 0
        self._stopping = asyncio.Event()
        self._none_open = asyncio.Event()
        self._none_open.set()

    def stop(self) -> None:
        """End every stream, and let none begin."""
        self._stopping.set()

    async def end(self) -> None:
        """Return once the streams are to end."""
        await self._stopping.wait()

    async def ended(self) -> None:
        """Return once no stream is open, or their readers had the time to take their ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._none_open.wait()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a stream open. Raises CodeframeError (UNAVAILABLE) where there are too many, or at the end."""
        if self._stopping.is_set():
            raise _unavailable("the gateway is stopping; connect again")
        if self._open >= self._limit:
            raise _unavailable(f"{self._limit} streams are open, which is the bound; see --max-streams")
        self._open += 1
        self._none_open.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()


async def first_to_end(*works: Coroutine[Any, Any, None]) -> None:
    """Do all works until one ends, then cancel the others. Raises what the one raised."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(work)) for work in works]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
    errors = [error for task in done if (error := task.result())]
    if errors:
        raise errors[0]


async def _outcome(work: Coroutine[Any, Any, None]) -> Exception | None:
    try:
        await work
    except Exception as error:
        return error
    return None


def _unavailable(message: str) -> CodeframeError:
    return CodeframeError(grpc.StatusCode.UNAVAILABLE, "ERROR_REASON_UNAVAILABLE", message)
