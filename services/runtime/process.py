"""A server process from its settings to its exit code."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from services.runtime.lag import recording_lag
from services.runtime.logs import configure_logs
from services.runtime.settings import ServerSettings
from services.runtime.stacks import tell_stacks_on_signal

log = structlog.get_logger()

LAG_EVERY = 0.05
"""Seconds between two looks at how late the loop is."""

LAG_TOLD = 0.5
"""A loop that was held up for so many seconds says so."""


class CannotStart(Exception):
    """The server cannot run as it is set up; the message is one line that says what to do."""


def run_process(service: str, main: Coroutine[Any, Any, None], settings: ServerSettings) -> None:
    """Run a server to its end. Exits 1 with one clear line where it cannot start."""
    configure_logs(service, settings.log_format, settings.log_level)
    install_child_watcher()
    spare_collections()
    code = 0
    try:
        asyncio.run(_observed(main))
    except* CannotStart as group:
        for line in _messages(group):
            print(f"{service}: {line}", file=sys.stderr)
        code = 1
    except* KeyboardInterrupt:
        code = 130
    if code:
        sys.exit(code)


async def _observed(main: Coroutine[Any, Any, None]) -> None:
    """Run `main`, and tell where it holds up its loop; on SIGUSR1, where all of it stands."""
    tell_stacks_on_signal()
    with recording_lag(LAG_EVERY, tell=_tell_lag) as lag:
        try:
            await main
        finally:
            log.debug("the event loop's longest lag", seconds=round(lag.longest, 3))


def _tell_lag(seconds: float) -> None:
    if seconds >= LAG_TOLD:
        log.warning("the event loop was held up", seconds=round(seconds, 3))


def _messages(group: BaseExceptionGroup[CannotStart]) -> list[str]:
    lines: list[str] = []
    for each in group.exceptions:
        lines += _messages(each) if isinstance(each, BaseExceptionGroup) else [str(each)]
    return lines


def install_child_watcher() -> None:
    """On Python 3.11, wait for child processes by pidfd: else each would cost a thread."""
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


def spare_collections() -> None:
    """Have the garbage collector leave alone what was imported, and look at the rest less often.

    A server's work makes tens of thousands of objects that live as long as a call: with the defaults they
    are looked at again and again while they live, which took a seventh of a worker's processor time.
    """
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


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
    """A Stop that SIGTERM and SIGINT ask for; with `with_parent`, the end of standard input does too.

    The kernel ends that input with the process that holds its other end, whatever killed it,
    and also where it ended before we looked. Raises CannotStart where nobody can hold it.
    """
    stop = Stop()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.ask)
    try:
        if with_parent:
            _ask_at_end_of_input(loop, stop)
        yield stop
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        if with_parent:
            loop.remove_reader(0)


def _ask_at_end_of_input(loop: asyncio.AbstractEventLoop, stop: Stop) -> None:
    def read() -> None:
        try:
            ended = not os.read(0, 4096)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            log.info("standard input ended, and so does this server")
            loop.remove_reader(0)
            stop.ask()

    try:
        loop.add_reader(0, read)
    except OSError:
        raise CannotStart(
            "--exit-with-parent needs a pipe as standard input, held open by the parent"
        ) from None
