"""Lead, three workers, gateway and the scripted Claude, each a process of its own, on a real repository."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codeframe.v1 import plan_pb2
from services.runtime.stacks import task_stacks
from tests.git_project import make_project

KEY = "scripted-key"
ROLES = ("backend", "frontend", "test")
FOLDER_OF = {"backend": "lib", "frontend": "src", "test": "tests"}

# A check that is quick: each text is a test, red where it says so. SECONDS is what a run of it takes besides.
CHECK = """\
sleep ${SECONDS_OF_CHECK:-0}
{
    echo '<testsuite name="check">'
    for text in lib/*.txt src/*.txt tests/*.txt; do
        test -e "$text" || continue
        echo "<testcase classname=\\"check\\" name=\\"$text\\">"
        if grep -q RED "$text"; then echo '<failure message="it says RED"/>'; fi
        echo '</testcase>'
    done
    echo '</testsuite>'
} > "$CODEFRAME_REPORT"
"""
FILES = {
    "check.sh": CHECK,
    "lib/base.txt": "green\n",
    "codeframe.toml": '[verification]\ncommand = "sh check.sh"\n',
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """Addresses, `host:port`, and process ids by name: claude, lead, gateway and the three roles."""

    folder: Path
    project: Path
    addresses: Mapping[str, str]
    processes: Mapping[str, asyncio.subprocess.Process]
    restart: Callable[[str], Awaitable[None]]

    @property
    def servers(self) -> dict[str, int]:
        """Process ids of the servers that are ours."""
        return {name: process.pid for name, process in self.processes.items() if name != "claude"}

    def tell_stacks(self) -> None:
        """Have every server log where everything in it stands."""
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGUSR1)


def task(name: str, role: str, *depends_on: str, **more: Any) -> plan_pb2.PlannedTask:
    """A task that its script does."""
    return plan_pb2.PlannedTask(
        id=name,
        title=f"Do {name}",
        description=f"Write it. [script: {name}]",
        role=role,
        depends_on=depends_on,
        **more,
    )


def script(name: str, role: str, text: str = "green\n", **step: Any) -> dict[str, Any]:
    """A script that writes one file, and is done."""
    path = f"{FOLDER_OF[role]}/{name}.txt"
    write = {
        "when": {"turn": 1},
        "say": "I write it.",
        "use": [{"put_file": {"path": path, "content": text}}],
    }
    return {"marker": name, "steps": [write | step, {"say": "Done."}]}


@asynccontextmanager
async def serve_fleet(
    folder: Path, scripts: Iterable[dict[str, Any]], *, slots: int = 4
) -> AsyncIterator[Fleet]:
    """A fleet that answers, stopped in the end. Logs are `*.log` in the folder."""
    project = folder / "project"
    make_project(project, FILES)
    (folder / "scripts").mkdir()
    for one in scripts:
        (folder / "scripts" / f"{one['marker']}.yaml").write_text(yaml.safe_dump(one))
    made = _Maker(folder)
    try:
        await made.start("claude", "demo.claude", "--script", str(folder / "scripts"), "--pace", "0")
        url = await made.address("claude")
        provider = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEY}
        for role in ROLES:
            worker = ("--role", role, "--name", role, "--slots", str(slots), "--sandbox", "none")
            await made.start(role, "services.workers", *worker, env=provider)
        workers = [word for role in ROLES for word in ("--worker", await made.address(role))]
        await made.start("lead", "services.lead", *workers)
        await made.start("gateway", "gateway", "--lead", await made.address("lead"))
        addresses = {name: await made.address(name) for name in made.processes}
        yield Fleet(folder, project, addresses, made.processes, made.restart)
    finally:
        await made.stop()


@asynccontextmanager
async def watched_over(fleet: Fleet, seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError where what is inside takes longer; then every process logs where it stands."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        print(f"after {seconds:g} s this process stands here:\n{task_stacks()}")
        fleet.tell_stacks()
        await asyncio.sleep(1)  # for them to write it
        raise


class _Maker:
    """Starts processes and stops them; none outlives this one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._starts: dict[str, Callable[[str], Awaitable[None]]] = {}

    async def start(self, name: str, module: str, *flags: str, env: Mapping[str, str] | None = None) -> None:
        """Start a process at any free port."""
        self._starts[name] = lambda port: self._start(name, module, *flags, port=port, env=env)
        await self._starts[name]("0")

    async def restart(self, name: str) -> None:
        """Start a process that has ended again, at its address; it answers once this returns."""
        port = (await self.address(name)).rpartition(":")[2]
        self._ready(name).unlink()
        await self._starts[name](port)
        await self.address(name)

    async def _start(
        self, name: str, module: str, *flags: str, port: str, env: Mapping[str, str] | None
    ) -> None:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("CODEFRAME_", "ANTHROPIC_"))
        }
        where = (
            "--port",
            port,
            "--data-dir",
            str(self._folder / name),
            "--ready-file",
            str(self._ready(name)),
        )
        with (self._folder / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", module, "--exit-with-parent", *where, *flags),
                env=inherited | dict(env or {}),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def _ready(self, name: str) -> Path:
        return self._folder / f"{name}.ready"

    async def address(self, name: str) -> str:
        """Where a process answers, once it does."""
        while not self._ready(name).exists():
            assert self.processes[name].returncode is None, f"{name} ended; see {name}.log"
            await asyncio.sleep(0.02)
        return self._ready(name).read_text().strip()

    async def stop(self) -> None:
        for name in reversed(self.processes):
            if (process := self.processes[name]).returncode is None:
                process.terminate()
        try:
            async with asyncio.timeout(30):
                for process in self.processes.values():
                    await process.wait()
        finally:
            for process in self.processes.values():
                if process.returncode is None:
                    process.kill()
                    await process.wait()
