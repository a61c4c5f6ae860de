"""Lead, three workers, gateway and the scripted Claude, each a process of its own, on a real repository."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codeframe.v1 import plan_pb2
from services.runtime.stacks import task_stacks
from tests.git_project import make_project
from tests.server_process import ServerProcess, plain_environment, start_server

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
    """Addresses, `host:port`, and processes by name: claude, lead, gateway and the three roles."""

    folder: Path
    project: Path
    addresses: Mapping[str, str]
    processes: Mapping[str, ServerProcess]
    restart: Callable[[str], Awaitable[None]]

    @property
    def servers(self) -> dict[str, int]:
        """Process ids of the servers that are ours."""
        return {name: each.process.pid for name, each in self.processes.items() if name != "claude"}

    def tell_stacks(self) -> None:
        """Have every server log where everything in it stands."""
        for process in (each.process for each in self.processes.values()):
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
async def watched_over(fleet: Fleet, seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Raise TimeoutError where what is inside takes longer; then every process logs where it stands.

    Gives what is called where something went on: the time begins anew.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds) as limit:
            yield lambda: limit.reschedule(loop.time() + seconds)
    except TimeoutError:
        print(f"after {seconds:g} s this process stands here:\n{task_stacks()}")
        fleet.tell_stacks()
        await asyncio.sleep(1)  # for them to write it
        raise


class _Maker:
    """Starts processes and stops them; none outlives this one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: dict[str, ServerProcess] = {}
        self._starts: dict[str, Callable[[int], Awaitable[ServerProcess]]] = {}

    async def start(self, name: str, module: str, *flags: str, env: Mapping[str, str] | None = None) -> None:
        """Start a process at any free port."""
        environment, data = plain_environment(**(env or {})), self._folder / name
        self._starts[name] = lambda port: start_server(module, data, *flags, port=port, env=environment)
        self.processes[name] = await self._starts[name](0)

    async def restart(self, name: str) -> None:
        """Start a process that has ended again, at its address; it answers once this returns."""
        port = self.processes[name].ready.read_text().rpartition(":")[2]
        self.processes[name] = await self._starts[name](int(port))
        await self.address(name)

    async def address(self, name: str) -> str:
        """Where a process answers, once it does."""
        return await self.processes[name].address()

    async def stop(self) -> None:
        try:
            async with asyncio.timeout(30):
                for server in reversed(self.processes.values()):
                    await server.stop()
        finally:
            for server in self.processes.values():
                await server.stop(kill=True)
