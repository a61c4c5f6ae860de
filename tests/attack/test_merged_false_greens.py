"""The same through lead and worker: what is green alone and red together; what tasks declare to change."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from codeframe.v1 import lead_pb2, plan_pb2, state_pb2
from services.workers.sandbox import Mode
from tests.attack.conftest import Try
from tests.git_project import files_at, git
from tests.integration.lead_stage import Lead, serve_lead, task
from tests.python_project import python_project
from tests.sandboxes import each_mode
from tests.worker_stage import Worker, overwrite, serving, write

FILES = {
    "codeframe.toml": '[setup]\npaths = [".venv"]\n[verification]\ncommand = "python -m pytest -q"\n',
    # A hook of the base's own: it steers, and is known to.
    "conftest.py": "def pytest_collection_modifyitems(items):\n    items.sort(key=lambda it: it.nodeid)\n",
    "shop/__init__.py": "",
    "shop/names.py": "import pkgutil\n\nimport shop\n\n\n"
    "def names():\n    return [each.name for each in pkgutil.iter_modules(shop.__path__)]\n",
    "tests/test_names.py": "from shop.names import names\n\n\n"
    "def test_not_both():\n    assert not {'left', 'right'} <= set(names())\n",
    "tests/test_old.py": "def test_old():\n    pass\n",
}


@pytest.fixture(params=each_mode(Mode.BUBBLEWRAP, Mode.SANDLOCK, thorough=[Mode.SANDLOCK]))
def mode(request: pytest.FixtureRequest) -> str:
    held: Mode = request.param
    return held.value


@asynccontextmanager
async def house(folder: Path, python: Path, mode: str) -> AsyncIterator[tuple[Worker, Lead]]:
    python_project(folder / "project", python, FILES)
    async with (
        serving(folder / "worker", sandbox=mode) as worker,
        serve_lead(folder / "lead", folder / "project", worker.address) as lead,
    ):
        yield worker, lead


async def ended(lead: Lead, *tasks: plan_pb2.PlannedTask) -> tuple[lead_pb2.Run, dict[str, lead_pb2.Task]]:
    run = await lead.create(*tasks, limits=lead_pb2.RunLimits(retries=0, corrections=0))
    return await lead.ended(run.run_id), await lead.tasks(run.run_id)


@pytest.mark.thorough
async def test_two_tasks_that_are_green_alone_and_red_together(
    tmp_path: Path, python: Path, mode: str, attack: Try
) -> None:
    async with house(tmp_path, python, mode) as (worker, lead):
        worker.model.scripts |= {name: [[write(f"shop/{name}.py", "")]] for name in ("left", "right")}
        tried = attack(mode=mode)
        run, tasks = await ended(lead, task("left"), task("right"))
        merged = {"shop/left.py", "shop/right.py"} & files_at(tmp_path / "project", run.head_commit)
        if len(merged) == 2 or run.counts.completed == 2:
            tried.won()
        assert (len(merged), run.counts.completed, run.counts.failed) == (1, 1, 1)
        assert "tests/test_names.py::test_not_both" in " ".join(each.message for each in tasks.values())


@pytest.mark.thorough
async def test_a_task_that_declares_nothing_steers_no_merged_test(
    tmp_path: Path, python: Path, mode: str, attack: Try
) -> None:
    hook = "def pytest_collection_modifyitems(items):\n    items[:] = items[:1]\n"
    async with house(tmp_path, python, mode) as (worker, lead):
        worker.model.scripts["more"] = [[write("more/conftest.py", hook), write("shop/left.py", "")]]
        tried = attack(mode=mode)
        run, tasks = await ended(lead, task("more"))
        if run.counts.completed:
            tried.won()
        assert tasks["more"].state == state_pb2.TASK_STATE_FAILED
        assert "missing, though passing before" in tasks["more"].message


async def test_what_tasks_declare_to_change_is_merged_with_others(
    tmp_path: Path, python: Path, mode: str
) -> None:
    """A test that goes, with a new hook, beside work that knows of neither; and the base's own hook."""
    gone: tuple[str, dict[str, Any]] = ("delete_file", {"path": "tests/test_old.py"})
    hook = FILES["conftest.py"] + "\n\ndef pytest_itemcollected(item):\n    pass\n"
    async with house(tmp_path, python, mode) as (worker, lead):
        worker.model.scripts |= {
            "tidy": [[gone, overwrite("conftest.py", hook)]],
            "left": [[write("shop/left.py", "")]],
            "after": [[write("shop/other.py", "")]],
        }
        declared = task("tidy", may_change=[plan_pb2.PROTECTED_KIND_TESTS])
        run, tasks = await ended(lead, declared, task("left"), task("after", "tidy", "left"))
        assert run.state == state_pb2.RUN_STATE_COMPLETED, [each.message for each in tasks.values()]
        files = files_at(tmp_path / "project", run.head_commit)
        assert "tests/test_old.py" not in files
        assert {"shop/left.py", "shop/other.py"} <= files
        assert "pytest_itemcollected" in git(tmp_path / "project", "show", f"{run.head_commit}:conftest.py")
