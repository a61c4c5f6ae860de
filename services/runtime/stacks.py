"""Where everything stands, told on SIGUSR1: for a process that seems to hang."""

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any


def tell_stacks_on_signal() -> None:
    """On SIGUSR1, write every thread's stack and every task's to standard error, and go on.

    The threads are written by the kernel's interruption, so also where the loop is blocked; the tasks, by
    the loop once it runs.
    """
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(task_stacks(), file=sys.stderr, flush=True))
    # After the loop's, which it calls.
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True, chain=True)


def task_stacks(loop: asyncio.AbstractEventLoop | None = None) -> str:
    """Each task of a loop (default: the running one), and what it waits for, outermost first."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    return "\n".join(line for task in tasks for line in _lines(task))


def _lines(task: asyncio.Task[Any]) -> Iterator[str]:
    yield f"task {task.get_name()}:"
    waiting: Any = task.get_coro()
    while waiting is not None:
        for kind in ("cr", "gi", "ag"):
            code: CodeType | None = getattr(waiting, f"{kind}_code", None)
            if code is not None:
                frame: FrameType | None = getattr(waiting, f"{kind}_frame")
                yield f"  {code.co_filename}:{frame.f_lineno if frame else '?'} in {code.co_qualname}"
                inner = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                waiting = getattr(waiting, inner)
                break
        else:
            yield f"  waits for {waiting!r:.200}"
            return
