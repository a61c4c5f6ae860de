"""Following a run to its end. Ctrl-C leaves it, or, a second time, cancels what `run` started."""

import asyncio
import enum
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from codeframe.cli.screen import Screen
from codeframe.cli.view import RunView
from codeframe.client import Client, CodeframeError, WatchBroken
from codeframe.v1.events_pb2 import PlanProposed
from codeframe.v1.status_pb2 import JournaledEvent

DETACH_SECONDS = 5.0
FLEET = "fleet"  # beside the run: its workers, and their providers
# A lead that ends old connections is not worth a line; one that stays away is.
_TELLING_FAILURES = 3


class Followed(enum.Enum):
    """How following ended."""

    ENDED = "ended"
    DETACHED = "detached"
    CANCELLED = "cancelled"


async def follow(client: Client, run_id: str, screen: Screen, view: RunView, *, own: bool) -> Followed:
    """Show a run until it has ended, or the user leaves; `own` where a second Ctrl-C may cancel it.

    Raises CodeframeError.
    """
    interrupts: asyncio.Queue[None] = asyncio.Queue()
    cancelling = asyncio.Event()
    with _interrupts(interrupts):
        async with asyncio.TaskGroup() as group:
            showing = group.create_task(_show(client, run_id, screen, view))
            leaving = group.create_task(_heed(interrupts, cancelling, run_id, screen, own))
            freshening = group.create_task(screen.keep_fresh())
            await asyncio.wait({showing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if cancelling.is_set():  # what is in flight ends first, unless asked for a third time
                await _cancel(client, run_id, screen)
                third = group.create_task(interrupts.get())
                await asyncio.wait({showing, third}, return_when=asyncio.FIRST_COMPLETED)
                third.cancel()
            ended = Followed.ENDED if showing.done() else Followed.DETACHED
            for task in (showing, leaving, freshening):
                task.cancel()
    return Followed.CANCELLED if cancelling.is_set() else ended


async def _show(client: Client, run_id: str, screen: Screen, view: RunView) -> None:
    async with client.watch(run_ids=[run_id, FLEET]) as watch:
        async for item in watch:
            if isinstance(item, WatchBroken) and item.failures == _TELLING_FAILURES:
                screen.note(f"the lead does not answer ({item.error.message}); asking on")
            screen.changed(view.apply(item))
            if isinstance(item, JournaledEvent) and item.event.HasField("plan_proposed"):
                await _show_plan(client, run_id, item.event.plan_proposed, screen, view)


async def _show_plan(
    client: Client, run_id: str, proposed: PlanProposed, screen: Screen, view: RunView
) -> None:
    """The tasks are there from now on: an event tells only the first of them."""
    async for task in client.tasks(run_id):
        view.apply(task)
    screen.note(view.plan(proposed.title), style="")


async def _heed(
    interrupts: asyncio.Queue[None], cancelling: asyncio.Event, run_id: str, screen: Screen, own: bool
) -> None:
    """Return once the user wants to leave; `cancelling` is set where the run is to be cancelled."""
    await interrupts.get()
    if not own:
        screen.note(f"the run goes on; `codeframe watch {run_id}` returns to it")
        return
    screen.note(
        f"detaching in {DETACH_SECONDS:g} s; the run goes on, and `codeframe watch {run_id}` returns to it. "
        "Ctrl-C again cancels the run."
    )
    try:
        async with asyncio.timeout(DETACH_SECONDS):
            await interrupts.get()
            cancelling.set()
    except TimeoutError:
        return


async def _cancel(client: Client, run_id: str, screen: Screen) -> None:
    screen.note("cancelling the run; waiting for its attempts to end (Ctrl-C again does not wait)")
    try:
        await client.cancel_run(run_id, "cancelled at the command line")
    except CodeframeError as error:
        screen.note(str(error))


@contextmanager
def _interrupts(into: asyncio.Queue[None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, into.put_nowait, None)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
