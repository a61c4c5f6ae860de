"""A server of ours as a process of its own, found by the file that it writes once it answers."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.eventually import eventually


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """The process, and where it logs."""

    process: asyncio.subprocess.Process
    log: Path
    ready: Path

    async def address(self) -> str:
        """Where it answers, once it does."""
        await eventually(lambda: self.ready.exists() or self.process.returncode is not None)
        assert self.process.returncode is None, f"it ended:\n{self.log.read_text()}"
        return self.ready.read_text().strip()

    async def stop(self, *, kill: bool = False) -> int:
        """Have it stop, if it has not yet; its exit code."""
        if self.process.returncode is None:
            (self.process.kill if kill else self.process.terminate)()
        return await self.process.wait()


async def start_server(
    module: str,
    data: Path,
    *flags: str,
    port: int = 0,
    env: Mapping[str, str] | None = None,
    wrapped: tuple[str, ...] = (),
    cwd: Path | None = None,
) -> ServerProcess:
    """Start `python -m MODULE` on a data folder, beside which its log is. It ends with this process."""
    ready, log = data.with_suffix(".ready"), data.with_suffix(".log")
    ready.unlink(missing_ok=True)
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *(*wrapped, *server_command(module, data, *flags, port=port), "--exit-with-parent"),
            cwd=cwd,
            env=plain_environment() if env is None else env,
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=out,
        )
    return ServerProcess(process, log, ready)


def server_command(module: str, data: Path, *flags: str, port: int = 0) -> tuple[str, ...]:
    """The words that start a server."""
    places = ("--port", str(port), "--data-dir", str(data), "--ready-file", str(data.with_suffix(".ready")))
    return (sys.executable, "-P", "-m", module, *places, *flags)


def plain_environment(**own: str) -> dict[str, str]:
    """Our environment without what steers codeframe or names a provider, and what a test adds to it."""
    foreign = ("CODEFRAME_", "ANTHROPIC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | own
