"""The demo's tasks done by real agents, in clones of a real repository, without sandbox or services."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codeframe.v1.plan_pb2 import PlannedTask
from services.workers.agent import WorkerAgent
from services.workers.broadcast import Notice
from services.workers.clock import SystemClock
from services.workers.desk import AgentRecord, BaseFacts, GitAnswer, Verdict
from services.workers.model.claude import ClaudeModel
from services.workers.roles.role import load_role
from services.workers.work import Limits, TaskWork

PYTEST = "python -m pytest"
_ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # those of this checkout take a second each time
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
}


async def ran(folder: Path, *command: str) -> tuple[int, str]:
    """Run a command to its end; its exit code and all it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=_ENVIRONMENT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def git(folder: Path, *arguments: str) -> str:
    """Run git where it must succeed."""
    code, output = await ran(folder, "git", *arguments)
    assert code == 0, output
    return output.strip()


@dataclass
class CloneDesk:
    """A desk on a clone: what is verified is committed there. `verdicts` are all so far."""

    root: Path
    base: BaseFacts
    verdicts: list[Verdict]

    async def git(self, *arguments: str) -> GitAnswer:
        code, output = await ran(self.root, "git", *arguments)
        return GitAnswer(code, output)

    async def run_tests(self, paths: Sequence[str]) -> str:
        code, output = await ran(self.root, "sh", "-c", " ".join([self.base.verification, *paths]))
        return f"{output}\nexit code {code}"

    async def verify(self) -> Verdict:
        await git(self.root, "add", "--all")
        await git(self.root, "commit", "--quiet", "--allow-empty", "--message", "work")
        code, output = await ran(self.root, "sh", "-c", self.base.verification)
        self.verdicts.append(Verdict(code == 0, f"exit code {code}", output))
        return self.verdicts[-1]

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        yield


async def _unheard(notice: Notice) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Rehearsal:
    """A repository whose branch `head` is what was merged so far."""

    repository: Path
    model: ClaudeModel

    async def attempt(self, task: PlannedTask, start: str, number: int = 1) -> tuple[AgentRecord, CloneDesk]:
        """Do a task from a branch, on the branch `<task>/<number>`."""
        branch, tree = f"{task.id}/{number}", self.repository.parent / f"{task.id}-{number}"
        await git(self.repository, "clone", "--quiet", "--shared", "--branch", start, ".", str(tree))
        await git(tree, "switch", "--quiet", "--create", branch)
        files = frozenset((await git(self.repository, "ls-tree", "-r", "--name-only", "head")).splitlines())
        verification = task.verification or PYTEST
        desk = CloneDesk(tree.resolve(), BaseFacts(verification, True, files), [])
        agent = WorkerAgent(
            load_role(task.role),
            self.model,
            desk,
            _unheard,
            model_name="claude-sonnet-5",
            limits=Limits(),
            clock=SystemClock(),
        )
        work = TaskWork(
            task_id=task.id,
            title=task.title,
            description=task.description,
            number=number,
            base_commit="",
            branch="",
            start_commit="" if start == "head" else start,
        )
        record = await agent.execute_task(work)
        await git(
            self.repository, "fetch", "--quiet", "--no-write-fetch-head", str(tree), f"{branch}:{branch}"
        )
        return record, desk

    async def merge(self, task: PlannedTask, number: int = 1) -> None:
        """Merge an attempt's branch; a conflict fails the test."""
        await git(self.repository, "merge", "--quiet", "--no-edit", f"{task.id}/{number}")
