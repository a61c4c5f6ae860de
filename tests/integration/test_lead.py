"""Plans run to their end by a lead and workers over gRPC, on a real repository."""

from pathlib import Path

import pytest

from codeframe.v1 import state_pb2
from tests.git_project import branches, bytes_of, files_at
from tests.integration.lead_stage import House, eventually, make_house, task


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


async def test_a_plan_of_two_tasks_completes_on_its_branch_alone(house: House) -> None:
    before = bytes_of(house.project)
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b", "a"))
        ended = await lead.ended(run.run_id)
        assert ended.state == state_pb2.RUN_STATE_COMPLETED, ended.failure
        assert {name: each.state for name, each in (await lead.tasks(run.run_id)).items()} == {
            "a": state_pb2.TASK_STATE_COMPLETED,
            "b": state_pb2.TASK_STATE_COMPLETED,
        }
        await eventually(lambda: branches(house.project) == {run.branch: ended.head_commit})
        assert files_at(house.project, ended.head_commit) == {"a.txt", "b.txt", "codeframe.toml", "verify.sh"}
        assert worker.attempts.in_flight == ()
        assert len(house.script.requests) == 3, "the base once, and each task once: its own tree was green"
    assert bytes_of(house.project) == before
