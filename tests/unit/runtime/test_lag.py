"""The recorder sees what blocks the loop, and only that."""

import asyncio
import time

from services.runtime.lag import recording_lag


async def test_a_blocking_call_is_seen() -> None:
    with recording_lag() as lag:
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251
    assert lag.longest > 0.15


async def test_waiting_is_no_lag() -> None:
    with recording_lag() as lag:
        await asyncio.sleep(0.2)
    assert lag.longest < 0.15
