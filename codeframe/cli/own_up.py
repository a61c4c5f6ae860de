"""The `up` that `run` starts for itself, where none is running: a process that may outlive it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from codeframe.cli.failure import BAD_USAGE, CommandFailed
from codeframe.cli.folder import Up, running
from codeframe.cli.up import KEY, check_services

START_SECONDS = 120.0


class OwnUp:
    """An `up` of our own. `leave` lets it run on when we end."""

    def __init__(self, up: Up, process: asyncio.subprocess.Process) -> None:
        self.up = up
        self.process = process
        self._left = False

    def leave(self) -> None:
        """Do not stop it at the end."""
        self._left = True

    @property
    def left(self) -> bool:
        """Whether it is to run on."""
        return self._left


@asynccontextmanager
async def own_up(folder: Path, arguments: Sequence[str]) -> AsyncIterator[OwnUp]:
    """Start an `up` in a data folder; it is stopped at the end, unless it was left.

    Raises CommandFailed where it cannot start, or no key is set.
    """
    check_services()
    if not os.environ.get(KEY):
        raise CommandFailed(
            f"{KEY} is not set: workers need a key for Claude; set it, or try `make demo`, which needs none",
            BAD_USAGE,
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = folder / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "codeframe.cli", "up", "--data-dir", str(folder), *arguments]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    own: OwnUp | None = None
    try:
        own = OwnUp(await _ready(folder, process, log), process)
        yield own
    finally:
        if (own is None or not own.left) and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def _ready(folder: Path, process: asyncio.subprocess.Process, log: Path) -> Up:
    async with asyncio.timeout(START_SECONDS):
        while True:
            if process.returncode is not None:
                raise CommandFailed(f"the servers did not start:\n{log.read_text(errors='replace').strip()}")
            up = running(folder)
            if up and up.pid == process.pid:
                return up
            await asyncio.sleep(0.05)
