"""How well worker processes share a provider's limit: `python -m bench.throttle`.

Lead, workers and the scripted Claude are processes of their own. The scripted Claude serves so many requests
a second and answers 429 to the others. Every attempt takes the same number of turns; the time from the first
request to the last reply is compared with what the limit allows.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import yaml

from codeframe.cli.child import Child, ServerPlan
from codeframe.client import Client
from codeframe.v1 import evidence_pb2, lead_pb2, plan_pb2, state_pb2, status_pb2

KEY = "scripted-key"
GOOD = 1.25
FILES = {
    "codeframe.toml": '[verification]\ncommand = "sh check.sh"\nreport = "report.xml"\n',
    "check.sh": 'echo \'<testsuite><testcase classname="a" name="b"/></testsuite>\' > report.xml\n',
    ".gitignore": "report.xml\n",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What is measured. `limit` is in requests a second; the provider serves as many at once."""

    attempts: int = 40
    workers: int = 4
    turns: int = 20
    limit: float = 10.0
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it. `took` and `allowed` are in seconds, from the first request to the last reply."""

    run: lead_pb2.Run
    attempts: tuple[lead_pb2.Attempt, ...]
    served: int
    refused: int
    took: float
    allowed: float
    pauses_told: int

    @property
    def ratio(self) -> float:
        """How much longer it took than the limit allows."""
        return self.took / self.allowed

    @property
    def failed(self) -> list[lead_pb2.Attempt]:
        """Attempts of tasks that did not succeed."""
        tasks = (each for each in self.attempts if each.kind == state_pb2.ATTEMPT_KIND_TASK)
        return [each for each in tasks if each.outcome != evidence_pb2.OUTCOME_SUCCEEDED]


async def measure(folder: Path, shape: Shape) -> Measured:
    """Run it in a folder, which is empty. Raises TimeoutError after `seconds`, ServerDied."""
    project = folder / "project"
    _make_project(project)
    _write_scripts(folder / "scripts", shape)
    async with asyncio.timeout(shape.seconds), _fleet(folder, shape) as (claude, lead):
        async with Client(lead) as client:
            limits = lead_pb2.RunLimits(concurrency=shape.attempts)
            made = await client.create_run(_plan(shape), str(project), limits=limits)
            told = await _throttled_until_the_end(client, made.run_id)
            run = await client.get_run(made.run_id)
            attempts = tuple([each async for each in client.attempts(made.run_id)])
        async with httpx2.AsyncClient(trust_env=False) as http:
            bill = (await http.get(f"{claude}/_scripted/bill", timeout=60)).json()
    return _measured(shape, run, attempts, bill["requests"], told)


async def _throttled_until_the_end(client: Client, run_id: str) -> int:
    """Return, once the run has ended, how often it was told that the provider asks to wait."""
    told = 0
    async with client.watch(kinds=["provider_throttled", "run_status_changed"], cursor="") as watch:
        async for item in watch:
            if isinstance(item, status_pb2.JournaledEvent):
                event = item.event
                told += event.HasField("provider_throttled")
                if event.run_id == run_id and event.run_status_changed.status in _FINAL:
                    return told
    raise AssertionError("a watch of everything has no end")


_FINAL = (state_pb2.RUN_STATE_COMPLETED, state_pb2.RUN_STATE_FAILED, state_pb2.RUN_STATE_CANCELLED)


def _measured(
    shape: Shape,
    run: lead_pb2.Run,
    attempts: tuple[lead_pb2.Attempt, ...],
    requests: list[dict[str, Any]],
    told: int,
) -> Measured:
    served = [each for each in requests if each["state"] == "finished"]
    first = min(datetime.fromisoformat(each["start_time"]) for each in requests)
    last = max(datetime.fromisoformat(each["end_time"]) for each in served)
    at_once = max(1.0, shape.limit)
    return Measured(
        run=run,
        attempts=attempts,
        served=len(served),
        refused=sum(each.get("status") == 429 for each in requests),
        took=(last - first).total_seconds(),
        allowed=(len(served) - at_once) / shape.limit,
        pauses_told=told,
    )


def _make_project(where: Path) -> None:
    where.mkdir()
    for name, text in FILES.items():
        (where / name).write_text(text)
    person = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for command in (("init", "--quiet"), ("add", "--all"), (*person, "commit", "--quiet", "-m", "first")):
        subprocess.run(["git", *command], cwd=where, check=True)


def _write_scripts(folder: Path, shape: Shape) -> None:
    """Each attempt writes a file of its own a turn, and ends its last."""
    folder.mkdir()
    for number in range(shape.attempts):
        steps: list[dict[str, Any]] = [
            {
                "when": {"turn": turn},
                "say": f"I write file {turn}.",
                "use": [{"put_file": {"path": f"task-{number}/{turn}.txt", "content": "done\n"}}],
            }
            for turn in range(1, shape.turns)
        ]
        script = {"marker": f"task-{number}", "steps": [*steps, {"say": "Done."}]}
        (folder / f"{number}.yaml").write_text(yaml.safe_dump(script))


def _plan(shape: Shape) -> plan_pb2.Plan:
    tasks = [
        plan_pb2.PlannedTask(
            id=f"task-{number}",
            title=f"Write the files of task {number}",
            description=f"One a turn. [script: task-{number}]",
            role="backend",
        )
        for number in range(shape.attempts)
    ]
    return plan_pb2.Plan(title="sharing a limit", tasks=tasks)


@asynccontextmanager
async def _fleet(folder: Path, shape: Shape) -> AsyncIterator[tuple[str, str]]:
    """The scripted Claude's URL and the lead's address; every process has ended afterwards."""
    foreign = ("CODEFRAME_", "ANTHROPIC_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    children: list[Child] = []

    async def start(name: str, module: str, arguments: list[str], more: Mapping[str, str]) -> str:
        child = Child(ServerPlan(name, module, arguments, {**environment, **more}), folder, 0, print)
        children.append(child)
        await child.start()
        return child.address

    try:
        scripts = ["--script", str(folder / "scripts"), "--rate-limit", f"{shape.limit:g}"]
        claude = await start("claude", "demo.claude", scripts, {})
        provider = {"ANTHROPIC_BASE_URL": claude, "ANTHROPIC_API_KEY": KEY}
        slots = str(-(-shape.attempts // shape.workers))
        flags = ["--role", "backend", "--slots", slots, "--sandbox", "none"]
        async with asyncio.TaskGroup() as group:
            starting = [
                group.create_task(start(name, "services.workers", [*flags, "--name", name], provider))
                for name in (f"worker-{number}" for number in range(shape.workers))
            ]
        workers = [word for worker in starting for word in ("--worker", worker.result())]
        yield claude, await start("lead", "services.lead", workers, {})
    finally:
        for child in reversed(children):
            child.ask_to_stop()
        for child in children:
            await child.stopped()


def _arguments() -> Shape:
    usual = Shape()
    parser = argparse.ArgumentParser(prog="python -m bench.throttle", description=__doc__)
    parser.add_argument("--attempts", type=int, default=usual.attempts)
    parser.add_argument("--workers", type=int, default=usual.workers, help="worker processes")
    parser.add_argument("--turns", type=int, default=usual.turns, help="requests of each attempt")
    parser.add_argument("--limit", type=float, default=usual.limit, help="requests a second")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="give up after so many")
    given = parser.parse_args()
    return Shape(given.attempts, given.workers, given.turns, given.limit, given.seconds)


def main() -> int:
    """Measure, and print it. Returns 1 where a task failed, or an attempt of one."""
    shape = _arguments()
    with tempfile.TemporaryDirectory(prefix="codeframe-bench-") as folder:
        found = asyncio.run(measure(Path(folder), shape))
    counts = found.run.counts
    print(
        f"{shape.attempts} attempts on {shape.workers} worker processes, {shape.turns} turns each, "
        f"{shape.limit:g} requests a second\n"
        f"  tasks completed         {counts.completed} of {counts.total}\n"
        f"  attempts failed         {len(found.failed)}\n"
        f"  requests served         {found.served}, and {found.refused} refused with 429\n"
        f"  provider_throttled      told {found.pauses_told} times\n"
        f"  time                    {found.took:.1f} s; the limit allows {found.allowed:.1f} s\n"
        f"  over what it allows     {found.ratio:.2f} times ({GOOD} is good)"
    )
    return int(bool(found.failed) or counts.completed < counts.total)


if __name__ == "__main__":
    sys.exit(main())
