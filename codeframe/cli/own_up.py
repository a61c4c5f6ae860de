"""The `up` that `run` starts for itself, where none is running: a process that may outlive it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from codeframe.cli.failure import BAD_USAGE, CommandFailed
from codeframe.cli.folder import Up, running
from codeframe.cli.key import missing_key
from codeframe.cli.process_end import process_ended
from codeframe.cli.up import STAY, check_services
from codeframe.cli.while_up import STOPPED

START_SECONDS = 120.0


class OwnUp:
    """An `up` of our own: it ends with us, unless it was told to stay.

    A plain Popen, waited for by its pidfd: asyncio's own kills what it started as it closes.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._stays = False

    async def ready(self, folder: Path) -> Up:
        """Where it answers, once it does. Raises CommandFailed where it ends before."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while (up := running(folder)) is None or up.pid != self._process.pid:
                    if self._process.poll() is not None:
                        raise self._failed("the servers did not start")
                    await asyncio.sleep(0.05)
                return up
        except TimeoutError:
            raise self._failed(f"the servers did not start in {START_SECONDS:g} s") from None

    async def broken(self) -> CommandFailed:
        """What to say once it has ended under our feet."""
        await self._ended()
        return self._failed(STOPPED)

    def stay(self) -> None:
        """Let it outlive us."""
        assert self._process.stdin is not None
        self._process.stdin.write(STAY)
        self._process.stdin.flush()
        self._stays = True

    async def end(self) -> None:
        """Stop it, and wait, unless it stays."""
        if not self._stays and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            await self._ended()

    async def _ended(self) -> None:
        await process_ended(self._process.pid)
        self._process.wait()

    def _failed(self, what: str) -> CommandFailed:
        lines = self._log.read_text(errors="replace").strip().splitlines()[-20:]
        return CommandFailed("\n".join([f"{what}:", *(line.removeprefix("Error: ") for line in lines)]))


@asynccontextmanager
async def own_up(folder: Path, arguments: Sequence[str]) -> AsyncIterator[tuple[OwnUp, Up]]:
    """Start an `up` in a data folder; it is stopped at the end, unless it is to stay.

    Raises CommandFailed where it cannot start, or the workers would have no key.
    """
    check_services()
    if missing := missing_key(os.environ):
        raise CommandFailed(missing, BAD_USAGE)
    log = folder / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = OwnUp(_spawn(folder, arguments, log), log)
    try:
        yield own, await own.ready(folder)
    finally:
        await own.end()


def _spawn(folder: Path, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "codeframe.cli", "up", "--exit-with-parent"),
                *("--data-dir", str(folder), *arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
