"""The demo's processes: the scripted Claude, the servers, the command line. None outlives the demo."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from codeframe.cli.folder import Up, running
from demo.failure import DemoFailed

START_SECONDS = 120.0
STOP_SECONDS = 60.0
RESTART_PAUSE = 0.2
MAX_RESTARTS = 100

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo plays: a folder for all that it writes, and the environment of its processes."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def servers(self) -> Path:
        """The data folder of the servers."""
        return self.folder / "servers"

    @property
    def claude(self) -> Path:
        """The data folder of the scripted Claude, with its bill."""
        return self.folder / "claude"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.folder / f"{name}.log"


def stage_in(folder: Path) -> Stage:
    """A stage in which the user's own settings of codeframe and the provider have no part."""
    foreign = ("CODEFRAME_", "ANTHROPIC_")
    return Stage(folder, {name: value for name, value in os.environ.items() if not name.startswith(foreign)})


class ScriptedClaude:
    """The scripted Claude's process, started again at the same address whenever it dies."""

    def __init__(self, stage: Stage, arguments: Sequence[str], say: Say) -> None:
        self._stage = stage
        self._arguments = arguments
        self._say = say
        self._process: Process | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        """Its process id, 0 before it started."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Return once it serves. Raises DemoFailed."""
        port = self.url.rpartition(":")[2] or "0"
        command = ["demo.claude", "--port", port, "--data-dir", str(self._stage.claude), "--exit-with-parent"]
        with self._stage.log("claude").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_python(*command, *self._arguments),
                cwd=self._stage.folder,
                env=self._stage.environment,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self.url = (await self._process.stdout.readline()).decode().strip() or self.url
        if self._process.returncode is not None or not self.url:
            raise DemoFailed(f"the scripted Claude did not start:\n{_end_of(self._stage.log('claude'))}")

    async def keep(self) -> None:
        """Start it again, so often and no more. Raises DemoFailed."""
        for _ in range(MAX_RESTARTS):
            if self._process is not None:
                code = await self._process.wait()
                self._say(f"the scripted Claude ended ({code}); starting it again")
            await asyncio.sleep(RESTART_PAUSE)
            await self.start()
            self._say("the scripted Claude is back")
        raise DemoFailed(f"the scripted Claude ended {MAX_RESTARTS} times")

    async def stop(self) -> None:
        """Stop it, and wait."""
        if self._process is not None:
            await _stop(self._process)


@asynccontextmanager
async def scripted_claude(stage: Stage, arguments: Sequence[str], say: Say) -> AsyncIterator[ScriptedClaude]:
    """A scripted Claude that is kept alive until the end of the block. Raises DemoFailed."""
    claude = ScriptedClaude(stage, arguments, say)
    try:
        await claude.start()
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(claude.keep())
            yield claude
            keeping.cancel()
    finally:
        await claude.stop()


@asynccontextmanager
async def servers(
    stage: Stage, provider: Mapping[str, str], arguments: Sequence[str]
) -> AsyncIterator[tuple[Process, Up]]:
    """`codeframe up`, ready, and stopped at the end of the block. Raises DemoFailed."""
    stage.servers.mkdir()
    command = ["codeframe.cli", "up", "--data-dir", str(stage.servers), *arguments]
    with stage.log("up").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *_python(*command),
            cwd=stage.folder,
            env={**stage.environment, **provider},
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            while (up := running(stage.servers)) is None or up.pid != process.pid:
                if process.returncode is not None:
                    raise DemoFailed(f"the servers did not start:\n{_end_of(stage.log('up'))}")
                await asyncio.sleep(0.05)
        yield process, up
    except TimeoutError:
        raise DemoFailed(f"the servers did not start in {START_SECONDS:.0f} s") from None
    finally:
        await _stop(process)


async def run(stage: Stage, work: Sequence[str], repository: Path, up: Process) -> int:
    """`codeframe run`, shown where we are shown; its exit code. Raises DemoFailed where `up` ends first."""
    command = ["codeframe.cli", "run", *work, "--repo", str(repository), "--data-dir", str(stage.servers)]
    wide = {} if sys.stdout.isatty() else {"COLUMNS": "160"}  # where there is no terminal to fit into
    process = await asyncio.create_subprocess_exec(
        *_python(*command),
        cwd=stage.folder,
        env={**wide, **stage.environment},
        stdin=DEVNULL,
        start_new_session=True,  # Ctrl-C is ours to heed: all stops, and nothing is left running
    )
    try:
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(process.wait())
            broken = group.create_task(up.wait())
            await asyncio.wait({ended, broken}, return_when=asyncio.FIRST_COMPLETED)
            broken.cancel()
            if not ended.done():
                raise DemoFailed(f"the servers ended:\n{_end_of(stage.log('up'))}")
        return ended.result()
    finally:
        if process.returncode is None:
            process.kill()  # it only shows
            await process.wait()


async def _stop(process: Process) -> None:
    """Ask a process to stop, and wait; it is killed where it takes too long."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _python(*module: str) -> list[str]:
    return [sys.executable, "-P", "-m", *module]


def _end_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-10:])
