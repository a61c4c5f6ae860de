"""The recorder sees what blocks the loop, and only that."""

import asyncio
import json
import subprocess
import sys
import textwrap
import time

from services.runtime.lag import recording_lag

# One CPU for four that want it: a block that takes 0.3 s of it takes about four times as long.
CROWDED = textwrap.dedent(
    """
    import asyncio, json, os, subprocess, sys, time
    from services.runtime.lag import recording_lag

    async def main():
        with recording_lag() as lag:
            await asyncio.sleep(0)
            started, until = time.monotonic(), time.thread_time() + 0.3
            while time.thread_time() < until:
                pass
            took = time.monotonic() - started
        print(json.dumps({"took": took, "lag": lag.longest}))

    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        asyncio.run(main())
    finally:
        for other in others:
            other.kill()
            other.wait()
    """
)


async def test_a_blocking_call_is_seen() -> None:
    with recording_lag() as lag:
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251
    assert lag.longest > 0.15


async def test_a_blocking_call_is_told_once() -> None:
    told: list[float] = []
    with recording_lag(tell=told.append):
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251
        await asyncio.sleep(0.05)
    assert len([late for late in told if late > 0.2]) == 1


async def test_waiting_is_no_lag() -> None:
    with recording_lag() as lag:
        await asyncio.sleep(0.2)
    assert lag.longest < 0.15


def test_a_cpu_that_others_took_is_no_lag() -> None:
    said = json.loads(subprocess.check_output([sys.executable, "-c", CROWDED]))
    assert said["took"] > 0.6, "the CPU was crowded"
    assert 0.2 < said["lag"] < said["took"] - 0.2
