"""A server as a child process: started, found ready, started again when it dies, stopped."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0
STABLE_SECONDS = 30.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
KILL_SECONDS = 45.0


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
        self._port = port
        self._say = say
        self._ready_file = folder / "run" / f"{plan.name}.ready"
        self._log = folder / "logs" / f"{plan.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self.address = ""

    @property
    def port(self) -> int:
        """The port it is bound to."""
        return int(self.address.rpartition(":")[2])

    async def start(self) -> None:
        """Start it, and return once it answers. Raises ServerDied."""
        self._ready_file.parent.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        data = self._folder / self.plan.name
        port = self._port if self._port and _is_free(self._port) else 0
        if self.address:
            port = self.port
        command = [sys.executable, "-P", "-m", self.plan.module, *self.plan.arguments]
        command += ["--port", str(port), "--data-dir", str(data), "--ready-file", str(self._ready_file)]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                "--exit-with-parent",
                cwd=self._folder,
                env=self.plan.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await self._until_ready(self._process)

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        async with asyncio.timeout(START_SECONDS):
            while not self._ready_file.exists():
                if process.returncode is not None:
                    raise ServerDied(f"{self.plan.name} ended with {process.returncode}:\n{self._log_end()}")
                await asyncio.sleep(0.02)
        self.address = self._ready_file.read_text().strip()

    def _log_end(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-5:]) + f"\n  (all of it: {self._log})"

    async def keep(self, restarted: Callable[[], object]) -> None:
        """Start it again, at the same address, whenever it dies, until it is asked to stop."""
        loop = asyncio.get_running_loop()
        failures = 0
        while self._process is not None:
            began = loop.time()
            code = await self._process.wait()
            if self._stopping:
                return
            failures = 0 if loop.time() - began > STABLE_SECONDS else failures + 1
            self._say(f"{self.plan.name} ended ({_ending(code)}); starting it again")
            await asyncio.sleep(min(SHORTEST_PAUSE * 2**failures, LONGEST_PAUSE))
            if self._asked_to_stop():
                return
            try:
                await self.start()
                restarted()
            except (ServerDied, TimeoutError) as error:
                self._say(f"{self.plan.name} did not start: {error}")

    def _asked_to_stop(self) -> bool:
        return self._stopping

    def ask_to_stop(self) -> None:
        """Send SIGTERM: the first drains, a second hastens."""
        self._stopping = True
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

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, number)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid if self._process else 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
