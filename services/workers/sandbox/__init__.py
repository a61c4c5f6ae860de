"""Running a command that nobody trusts.

    sandbox = await Sandbox.open("auto", scratch=data / "scratch", hidden=(data, Path.home()))
    result = await sandbox.run(Command(argv=("ls", "-l"), cwd=tree, writable=(tree,)))
    result = await sandbox.run(Command(argv=shell("make | tee log"), cwd=tree, writable=(tree,), timeout=60))

`Sandbox.open` probes once, raises `SandboxUnavailable`, and gives a sandbox whose `mode` never changes.
`Sandbox.run` returns, or raises on cancellation, only when every process the command started is dead. It
raises `SandboxError` where the command could not be run at all; a command that fails, hangs or exceeds a
bound is a `CommandResult`.
"""

from services.workers.sandbox.command import Command, CommandResult, Limits, Mode, shell
from services.workers.sandbox.errors import SandboxError, SandboxUnavailable
from services.workers.sandbox.sandbox import Sandbox

__all__ = [
    "Command",
    "CommandResult",
    "Limits",
    "Mode",
    "Sandbox",
    "SandboxError",
    "SandboxUnavailable",
    "shell",
]
