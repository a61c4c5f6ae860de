"""A server process from its settings to its exit code."""

import asyncio
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from services.runtime.logs import configure_logs
from services.runtime.settings import ServerSettings


class CannotStart(Exception):
    """The server cannot run as it is set up; the message is one line that says what to do."""


def run_process(service: str, main: Coroutine[Any, Any, None], settings: ServerSettings) -> None:
    """Run a server to its end. Exits 1 with one clear line where it cannot start."""
    configure_logs(service, settings.log_format, settings.log_level)
    install_child_watcher()
    try:
        asyncio.run(main)
    except CannotStart as error:
        print(f"{service}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def install_child_watcher() -> None:
    """On Python 3.11, wait for child processes by pidfd: else each would cost a thread."""
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


class Stop:
    """A wish to stop: `asked` once, and `hastened` where it is asked for again."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hastened = asyncio.Event()

    def ask(self) -> None:
        """Ask, or hasten what was asked for before."""
        (self.hastened if self.asked.is_set() else self.asked).set()


@asynccontextmanager
async def stop_on_signals(*, with_parent: bool = False) -> AsyncIterator[Stop]:
    """A Stop that SIGTERM and SIGINT ask for; with `with_parent`, the parent's end does too.

    Waits for the parent by pidfd, so that a server outlives not even a parent that was killed.
    """
    stop = Stop()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.ask)
    parent = _watch_parent(loop, stop) if with_parent else None
    try:
        yield stop
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        if parent is not None:
            loop.remove_reader(parent)
            os.close(parent)


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: Stop) -> int | None:
    try:
        parent = os.pidfd_open(os.getppid())
    except ProcessLookupError:
        stop.ask()
        return None

    def ended() -> None:
        loop.remove_reader(parent)
        stop.ask()

    if select.select([parent], [], [], 0)[0] or os.getppid() == 1:
        stop.ask()
    else:
        loop.add_reader(parent, ended)
    return parent
