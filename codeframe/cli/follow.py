"""Following a run to its end. The first Ctrl-C detaches, a second cancels the run."""

import asyncio
import enum
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from codeframe.cli.screen import Screen
from codeframe.cli.view import RunView
from codeframe.client import Client, SnapshotStarted, WatchBroken
from codeframe.v1 import lead_pb2, status_pb2

DETACH_SECONDS = 5.0


class Followed(enum.Enum):
    """How following ended."""

    ENDED = "ended"
    DETACHED = "detached"
    CANCELLED = "cancelled"


async def follow(client: Client, run_id: str, screen: Screen, view: RunView) -> Followed:
    """Show a run until it has ended, or the user detaches. Raises CodeframeError."""
    interrupts: asyncio.Queue[None] = asyncio.Queue()
    with _interrupts(interrupts):
        async with asyncio.TaskGroup() as group:
            showing = group.create_task(_show(client, run_id, screen, view))
            minding = group.create_task(_mind(interrupts, client, run_id, screen))
            await asyncio.wait({showing, minding}, return_when=asyncio.FIRST_COMPLETED)
            ended = Followed.ENDED if showing.done() else minding.result()
            if ended is not Followed.CANCELLED:
                showing.cancel()
            minding.cancel()
    return ended


async def _show(client: Client, run_id: str, screen: Screen, view: RunView) -> None:
    async with client.watch(run_ids=[run_id]) as watch:
        async for item in watch:
            line = ""
            match item:
                case SnapshotStarted():
                    view.tasks.clear()
                case lead_pb2.Run():
                    view.take_run(item)
                case lead_pb2.Task():
                    view.take_task(item)
                case status_pb2.JournaledEvent():
                    line = view.apply(item)
                case WatchBroken() if item.failures == 1:
                    screen.note(f"the lead does not answer ({item.error.message}); asking on")
                case _:
                    pass
            screen.changed(line)


async def _mind(interrupts: asyncio.Queue[None], client: Client, run_id: str, screen: Screen) -> Followed:
    """The first interrupt detaches after 5 s; a second one before that cancels the run."""
    await interrupts.get()
    screen.note(
        f"detaching in {DETACH_SECONDS:g} s; the run goes on, and `codeframe watch {run_id}` returns to it. "
        "Ctrl-C again cancels the run."
    )
    try:
        async with asyncio.timeout(DETACH_SECONDS):
            await interrupts.get()
    except TimeoutError:
        return Followed.DETACHED
    screen.note("cancelling the run; waiting for its attempts to end")
    await client.cancel_run(run_id, "cancelled at the command line")
    return Followed.CANCELLED


@contextmanager
def _interrupts(into: asyncio.Queue[None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, into.put_nowait, None)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
