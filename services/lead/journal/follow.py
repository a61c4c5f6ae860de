"""Following a journal from a place: what is there, then what comes."""

import asyncio
from collections.abc import AsyncGenerator

from services.lead.journal import Filter, Journal, Page

GATHER = 0.02
"""Seconds for which what comes is gathered into one page, once the follower is at the head."""


async def follow(
    journal: Journal, after: int, which: Filter, *, pulse: float | None = None, gather: float = GATHER
) -> AsyncGenerator[Page, None]:
    """Yield the pages after a revision, for ever: each match once, in order.

    A page without entries says only how far the log was read. At the head, a page comes at once after a
    quiet moment, else each `gather` seconds. With `pulse`, an empty page comes after so many seconds without
    any. Nothing is held between pages: a follower that takes its time rereads the journal. Close the
    iterator (`contextlib.aclosing`) to stop. Raises what `Journal.entries` raises.
    """
    now = asyncio.get_running_loop().time
    read_at = now() - gather
    while True:
        try:
            async with asyncio.timeout(pulse):
                await journal.changed(after)
        except TimeoutError:
            yield Page((), after)
            continue
        await asyncio.sleep(read_at + gather - now())
        read_at = now()
        while True:
            page = await journal.entries(after, which)
            if page.through == after:
                break
            after = page.through
            yield page
