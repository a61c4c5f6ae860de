"""The demo's plan, scripts and project fit each other, and the tools that workers offer."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codeframe.planfile import read_plan
from codeframe.v1.plan_pb2 import PlannedTask
from demo.claude.conversation import MARKER
from demo.claude.script import load_scripts
from services.workers.clock import SystemClock
from services.workers.model.claude import ClaudeModel
from tests.unit.demo.rehearsal import PYTEST, Rehearsal, git, ran
from tests.unit.demo.serving import KEY, Serving, serving

DEMO = Path(__file__).parents[3] / "demo"
PLAN = read_plan((DEMO / "plan.yaml").read_text(encoding="utf-8"), "plan.yaml").plan
GOAL = (DEMO / "goal.txt").read_text(encoding="utf-8")
TASKS = {task.id: task for task in PLAN.tasks}
SCRIPTS = {file.name: file.read_text(encoding="utf-8") for file in (DEMO / "scripts").glob("*.yaml")}


@pytest.fixture
async def claude(tmp_path: Path) -> AsyncIterator[Serving]:
    (tmp_path / "claude").mkdir()
    async with serving(tmp_path / "claude", SCRIPTS, pace=0) as server:
        yield server


@pytest.fixture
async def rehearsal(tmp_path: Path, claude: Serving) -> AsyncIterator[Rehearsal]:
    repository = tmp_path / "repository"
    shutil.copytree(DEMO / "project", repository)
    await git(repository, "init", "--quiet", "--initial-branch=head")
    await git(repository, "add", "--all")
    await git(repository, "commit", "--quiet", "--message", "The shop")
    model = ClaudeModel(KEY, claude.url, clock=SystemClock(), chance=random.random)
    yield Rehearsal(repository, model)
    await model.close()


def waves() -> list[list[PlannedTask]]:
    """The plan's tasks as they can run beside each other."""
    done: set[str] = set()
    found = []
    while len(done) < len(TASKS):
        found.append(
            [task for task in TASKS.values() if task.id not in done and done.issuperset(task.depends_on)]
        )
        done |= {task.id for task in found[-1]}
    return found


def test_the_plan_is_worth_showing() -> None:
    assert len(TASKS) >= 6
    assert {task.role for task in TASKS.values()} == {"backend", "frontend", "test"}
    assert len(waves()) >= 3
    assert max(len(wave) for wave in waves()) >= 3


def test_each_task_has_its_script() -> None:
    markers = [MARKER.findall(task.description) for task in TASKS.values()]
    markers.append(MARKER.findall(GOAL))
    assert sorted(markers) == sorted([marker] for marker in load_scripts([DEMO / "scripts"]))


async def test_the_project_is_green_before_anything_is_done(rehearsal: Rehearsal) -> None:
    for command in (PYTEST, "cd frontend && node --test"):
        code, output = await ran(rehearsal.repository, "sh", "-c", command)
        assert code == 0, output


@pytest.mark.timeout(240)  # many test runs of the sample project
async def test_the_plan_is_done_task_beside_task(rehearsal: Rehearsal, claude: Serving) -> None:
    corrections = {}
    for wave in waves():
        async with asyncio.TaskGroup() as group:
            doing = {task.id: group.create_task(rehearsal.attempt(task, "head")) for task in wave}
        for task in wave:
            record, desk = doing[task.id].result()
            corrections[task.id] = record.corrections
            assert record.turns >= 4
            assert desk.verdicts[-1].green
            await rehearsal.merge(task)
    assert {task for task, count in corrections.items() if count} == {"checkout"}
    for command in (PYTEST, "cd frontend && node --test"):
        code, output = await ran(rehearsal.repository, "sh", "-c", command)
        assert code == 0, output
    bill = claude.bill.summary()
    assert bill.paid_twice == []
    assert {str(request["state"]) for request in claude.requests()} == {"finished"}
    assert bill.totals["cache_read_input_tokens"] > bill.totals["input_tokens"]


@pytest.mark.timeout(240)  # many test runs of the sample project
async def test_each_task_fits_an_attempt_that_starts_again(rehearsal: Rehearsal) -> None:
    """One task after the other, so that each starts where others were merged; then from its own work."""
    for task in (task for wave in waves() for task in wave):
        await rehearsal.attempt(task, "head")
        _, again = await rehearsal.attempt(task, f"{task.id}/1", number=2)
        assert again.verdicts[-1].green
        same = await git(rehearsal.repository, "diff", f"{task.id}/1", f"{task.id}/2")
        assert same == ""
        await rehearsal.merge(task, number=2)


@pytest.mark.timeout(240)  # many test runs of the sample project
async def test_a_correction_that_was_interrupted_is_done_again(rehearsal: Rehearsal) -> None:
    for name in ("orders", "stock"):
        await rehearsal.attempt(TASKS[name], "head")
        await rehearsal.merge(TASKS[name])
    await rehearsal.attempt(TASKS["checkout"], "head")
    await git(rehearsal.repository, "branch", "interrupted", "checkout/1~1")
    record, desk = await rehearsal.attempt(TASKS["checkout"], "interrupted", number=2)
    assert [verdict.green for verdict in desk.verdicts] == [False, True]
    assert record.corrections == 1
