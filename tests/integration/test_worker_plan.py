"""Planning attempts by a real worker: server, agent loop, git and tools are real, the model is scripted."""

import json
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf import json_format

from codeframe.v1 import evidence_pb2, plan_pb2
from tests.attempts import plan_request, task_request
from tests.git_project import branches, make_project
from tests.worker_stage import Calls, last_told, prompt, serving

SUCCEEDED = evidence_pb2.OUTCOME_SUCCEEDED
FILES = {
    "README.md": "A shop.\n",
    "codeframe.toml": '[verification]\ncommand = "make check"\n[roles.test]\nmodel = "small"\n',
}


def a_task(id: str, *depends_on: str, role: str = "backend", **more: Any) -> dict[str, Any]:
    described = {"title": f"Do {id}", "description": f"{id} is done."}
    return {"id": id, **described, "role": role, "depends_on": list(depends_on), **more}


def propose(*tasks: dict[str, Any]) -> Calls:
    return [("propose_plan", {"title": "What it takes", "tasks": list(tasks)})]


def project_of(folder: Path, files: dict[str, str]) -> tuple[Path, str]:
    return folder / "project", make_project(folder / "project", files)


async def test_a_planner_reads_the_base_and_hands_over_a_plan(tmp_path: Path) -> None:
    project, base = project_of(tmp_path, FILES)
    async with serving(tmp_path / "worker") as worker:
        told = a_task("b", "a", role="test", priority=1, verification="make b", may_change=["tests", "ci"])
        worker.model.scripts["goal"] = [
            [("list_files", {}), ("read_file", {"path": "README.md"})],
            propose(a_task("a"), told),
        ]
        result = await worker.result(plan_request(project, base, "Sell more."))
        assert (result.outcome, result.message) == (SUCCEEDED, "")
        assert (result.base_commit, result.commit, result.branch) == (base, "", "")
        plan = json_format.Parse(await worker.artifact("run.plan-1", "plan"), plan_pb2.Plan())
        assert [(task.id, task.role, list(task.depends_on)) for task in plan.tasks] == [
            ("a", "backend", []),
            ("b", "test", ["a"]),
        ]
        assert (plan.tasks[1].priority, plan.tasks[1].verification) == (1, "make b")
        assert list(plan.tasks[1].may_change) == [
            plan_pb2.PROTECTED_KIND_TESTS,
            plan_pb2.PROTECTED_KIND_CI,
        ]
        first = worker.model.conversations[0]
        assert "Sell more." in prompt(first)
        assert "backend, test" in prompt(first)
        assert "backend: `make check`" in prompt(first)
        assert "A shop." in last_told(worker.model.conversations[1])
        notices = await worker.notices("run.plan-1")
        assert "task_status_changed" not in {notice.WhichOneof("payload") for notice in notices}
        assert result.usage[0].turns == 3
    assert branches(project) == {}, "nothing is pushed"


INVALID = {
    "a cycle": (propose(a_task("a", "b"), a_task("b", "a")), "a → b → a"),
    "an unknown dependency": (propose(a_task("a", "z")), "'z', which no task is called"),
    "itself": (propose(a_task("a", "a")), "depends on itself"),
    "an id twice": (propose(a_task("a"), a_task("a")), "the id 'a' is taken by tasks[0]"),
    "an unknown role": (
        propose(a_task("a", role="docs")),
        "'docs' is no role here; there are: backend",
    ),
    "a planner": (propose(a_task("a", role="planner")), "the role planner makes plans"),
    "nothing verifies it": (propose(a_task("a", verification="none")), "only people may say"),
    "no task": (propose(), "the plan has no tasks"),
    "an id of blanks": (propose(a_task("a b")), "tasks[0].id: does not match"),
    "no plan": ([("list_files", {})], "no plan was proposed"),
}


@pytest.mark.parametrize("fault", INVALID)
async def test_an_invalid_plan_goes_back_to_the_model_with_its_faults(tmp_path: Path, fault: str) -> None:
    project, base = project_of(tmp_path, FILES)
    calls, says = INVALID[fault]
    async with serving(tmp_path / "worker") as worker:
        worker.model.scripts["goal"] = [calls, [], propose(a_task("a"))]
        result = await worker.result(plan_request(project, base))
        assert (result.outcome, result.corrections) == (SUCCEEDED, 1)
        assert says in last_told(worker.model.conversations[2])
        plan = json.loads(await worker.artifact("run.plan-1", "plan"))
        assert [task["id"] for task in plan["tasks"]] == ["a"]


async def test_a_plan_that_stays_invalid_ends_the_attempt_with_its_faults(tmp_path: Path) -> None:
    project, base = project_of(tmp_path, FILES)
    bad = propose(a_task("a", "z"))
    async with serving(tmp_path / "worker") as worker:
        worker.model.scripts["goal"] = [bad, [], bad, [], bad, [], bad, []]
        result = await worker.result(plan_request(project, base))
        assert (result.outcome, result.corrections) == (evidence_pb2.OUTCOME_VERIFICATION_FAILED, 3)
        assert "which no task is called" in result.message
        assert "plan" not in {artifact.name for artifact in result.artifacts}


async def test_a_base_that_tells_no_verification_has_each_task_name_one(tmp_path: Path) -> None:
    project, base = project_of(tmp_path, {"README.md": "A shop.\n"})
    async with serving(tmp_path / "worker") as worker:
        worker.model.scripts["goal"] = [
            propose(a_task("a")),
            [],
            propose(a_task("a", verification="make test")),
        ]
        result = await worker.result(plan_request(project, base))
        assert (result.outcome, result.corrections) == (SUCCEEDED, 1)
        assert "none is found: each task names one" in prompt(worker.model.conversations[0])
        assert "tasks[0].verification: the base tells none" in last_told(worker.model.conversations[2])


async def test_a_planner_has_no_tool_that_writes(tmp_path: Path) -> None:
    project, base = project_of(tmp_path, FILES)
    async with serving(tmp_path / "worker") as worker:
        worker.model.scripts["goal"] = [
            [("create_file", {"path": "x", "content": "x"}), *propose(a_task("a"))],
            propose(a_task("b")),
        ]
        result = await worker.result(plan_request(project, base))
        assert result.outcome == SUCCEEDED
        assert "there is no tool 'create_file'" in last_told(worker.model.conversations[1])
        assert '"b"' in await worker.artifact("run.plan-1", "plan")


async def test_a_planner_does_no_task_and_others_make_no_plan(tmp_path: Path) -> None:
    project, base = project_of(tmp_path, FILES)
    async with serving(tmp_path / "worker") as worker:
        plan = plan_request(project, base)
        plan.role = "backend"
        with pytest.raises(grpc.aio.AioRpcError, match="the role backend makes no plans"):
            await worker.execute(plan)
        with pytest.raises(grpc.aio.AioRpcError, match="the role planner makes plans, and does no task"):
            await worker.execute(task_request(project, base, role="planner"))
