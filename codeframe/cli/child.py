"""A server as a child process: started, found ready, started again when it dies, stopped."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codeframe.client.backoff import Backoff

START_SECONDS = 60.0
STABLE_SECONDS = 30.0
KILL_SECONDS = 45.0
LOG_BYTES = 8 * 1024 * 1024
_TAIL_BYTES = 4096


class ServerDied(Exception):
    """A server ended before it was ready; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """Which module to run, with which arguments and environment."""

    name: str
    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]


class Child:
    """One server process. Its port is chosen once and kept: others know it by its address.

    The child's standard input is a pipe that we hold open: it stops by itself when we end,
    however that comes (`--exit-with-parent`).
    """

    def __init__(self, plan: ServerPlan, folder: Path, port: int, say: Callable[[str], None]) -> None:
        self.plan = plan
        self._folder = folder
        self._say = say
        self._ready_file = folder / "run" / f"{plan.name}.ready"
        self._log = folder / "logs" / f"{plan.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._stop = asyncio.Event()
        self.port = port
        self.address = ""

    @property
    def pid(self) -> int:
        """Its process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start it, and return once it answers, or once it was asked to stop. Raises ServerDied."""
        try:
            process = await self._spawn()
        except OSError as error:
            raise ServerDied(f"{self.plan.name} cannot be started: {error}") from None
        self._process = process
        if self._stop.is_set():  # asked while it was being started
            self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._ready(process)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()
            raise ServerDied(
                f"{self.plan.name} did not answer in {START_SECONDS:g} s:{self._tail()}"
            ) from None

    async def keep(self, restarted: Callable[[], object]) -> None:
        """Start it again, at the same address, whenever it dies, until it is asked to stop."""
        clock = asyncio.get_running_loop().time
        backoff = Backoff(first=0.2, limit=10.0)
        failures = 0
        while self._process is not None:
            began = clock()
            code = await self._process.wait()
            if self._stop.is_set():
                return
            failures = 1 if clock() - began > STABLE_SECONDS else failures + 1
            pause = backoff.delay(failures, chance=0.0)
            self._say(f"{self.plan.name} ended ({_ending(code)}); starting it again in {pause:g} s")
            if await self._stops_within(pause):
                return
            try:
                await self.start()
                restarted()
                self._say(f"{self.plan.name} is back at {self.address}")
            except ServerDied as died:
                self._say(str(died))

    def ask_to_stop(self) -> None:
        """Send SIGTERM: the first drains, a second hastens."""
        self._stop.set()
        self._signal(signal.SIGTERM)

    async def stopped(self) -> None:
        """Return once it is dead; it is killed where it takes too long."""
        if self._process is None:
            return
        try:
            async with asyncio.timeout(KILL_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._say(f"{self.plan.name} does not stop; killing it")
            self._signal(signal.SIGKILL)
            await self._process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        for file in (self._ready_file, self._log):
            file.parent.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        own = {
            "--port": str(self.port),
            "--data-dir": str(self._folder / self.plan.name),
            "--ready-file": str(self._ready_file),
        }
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", self.plan.module, *self.plan.arguments),
                *(word for pair in own.items() for word in pair),
                "--exit-with-parent",
                cwd=self._folder,
                env=self.plan.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        while not self._ready_file.exists():
            if process.returncode is not None:
                if self._stop.is_set():
                    return
                raise ServerDied(
                    f"{self.plan.name} did not start ({_ending(process.returncode)}):{self._tail()}"
                )
            await asyncio.sleep(0.02)
        self.address = self._ready_file.read_text().strip()
        self.port = int(self.address.rpartition(":")[2])

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stop.wait()
        except TimeoutError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _tail(self) -> str:
        with self._log.open("rb") as log:
            log.seek(-min(_TAIL_BYTES, self._log.stat().st_size), os.SEEK_END)
            lines = log.read().decode(errors="replace").splitlines()
        return "".join(f"\n  {line}" for line in lines[-5:]) + f"\n  (all of it: {self._log})"


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
