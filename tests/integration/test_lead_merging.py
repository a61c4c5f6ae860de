"""The base, and the merge queue: what is merged is green with all that was merged before."""

from collections import deque
from pathlib import Path

from codeframe.v1 import evidence_pb2, lead_pb2, state_pb2
from services.workers.outcome import Outcome
from services.workers.work import Baseline
from tests.git_project import commit_files, files_at, git
from tests.integration.lead_stage import House, Lead, make_house, task

COMPLETED, FAILED = state_pb2.RUN_STATE_COMPLETED, state_pb2.RUN_STATE_FAILED


async def states(lead: Lead, run_id: str) -> dict[str, str]:
    return {
        name: state_pb2.TaskState.Name(each.state).removeprefix("TASK_STATE_")
        for name, each in (await lead.tasks(run_id)).items()
    }


async def test_a_conflict_is_done_again_from_the_head_and_told(house: House) -> None:
    house.script.files = {"a": {"same.txt": "a's line\n"}, "b.1": {"same.txt": "b's line\n"}}
    house.script.gate("a", "b.1")
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b"))
        await house.script.until_running(f"{run.run_id}.a.1", f"{run.run_id}.b.1")
        house.script.open("a")
        await lead.until(run.run_id, lambda run: run.counts.completed == 1)
        house.script.open("b.1")
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED
        first, second = house.script.work("b")
        assert first.base_commit == run.base_commit
        assert second.previous
        assert second.previous.outcome == "conflict"
        assert "same.txt" in second.previous.message
        assert "b's line" in second.previous.message
        assert (await lead.tasks(run.run_id))["b"].retries == 0, "a conflict costs nothing"
        assert git(house.project, "show", f"{ended.head_commit}:same.txt") == "a's line"


async def test_green_alone_and_red_together_is_caught_and_one_is_done_again(house: House) -> None:
    house.script.files = {
        "a.1": {"together-1": ""},
        "b.1": {"together-2": ""},
        "a.2": {"harmless": ""},
        "b.2": {"harmless": ""},
    }
    house.script.gate("a.1", "b.1")
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b"))
        await house.script.until_running(f"{run.run_id}.a.1", f"{run.run_id}.b.1")
        house.script.open("a.1", "b.1")
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure
        (again,) = [work for work in (*house.script.work("a"), *house.script.work("b")) if work.number > 1]
        assert again.previous
        assert again.previous.outcome == "integration_failed"
        assert "together" in again.previous.message
        assert again.previous.red_tests == "together"
        assert f"b/together-{1 if again.task_id == 'a' else 2}" in again.previous.diff
        heads = [each.head_commit for each in await lead.told(run.run_id, "run_status_changed")]
        for head in [*heads, ended.head_commit]:
            files = files_at(house.project, head)
            assert not {"together-1", "together-2"} <= files, "the head is never redder than the base"
        assert "harmless" in files_at(house.project, ended.head_commit)


async def test_what_is_red_at_the_base_counts_against_nobody(tmp_path: Path) -> None:
    house = make_house(tmp_path, red="")
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        assert (await lead.ended(run.run_id)).state == COMPLETED
        of_base, of_task = house.script.requests
        assert of_base.checks.baseline is None
        assert of_task.checks.baseline == Baseline(frozenset({"basic"}), frozenset({"red"}))


async def test_a_base_that_cannot_be_set_up_ends_the_run(house: House) -> None:
    house.script.endings["verify"] = deque([Outcome.SETUP_FAILED])
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        ended = await lead.ended(run.run_id)
        assert ended.failure.reason == state_pb2.RUN_FAILURE_REASON_BASE_UNVERIFIABLE
        assert "as ordered: setup_failed" in ended.failure.message


async def test_a_verification_that_says_nothing_is_sent_again(house: House) -> None:
    house.script.endings["verify"] = deque([Outcome.INTERNAL, Outcome.INTERRUPTED])
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        assert (await lead.ended(run.run_id)).state == COMPLETED


async def test_each_check_of_the_plan_judges_every_candidate(house: House) -> None:
    other = 'if [ -e a.txt ]; then echo FAIL "no a"; else echo PASS other; fi'
    commit_files(house.project, {"other.sh": other + "\n"})
    house.script.gate("a", "b.1")
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(
            task("a"), task("b", verification="sh other.sh"), limits=lead_pb2.RunLimits(retries=0)
        )
        await house.script.until_running(f"{run.run_id}.a.1", f"{run.run_id}.b.1")
        house.script.open("b.1")
        await lead.until(run.run_id, lambda run: run.counts.completed == 1)
        house.script.open("a")
        ended = await lead.ended(run.run_id)
        assert await states(lead, run.run_id) == {"a": "FAILED", "b": "COMPLETED"}
        failed = (await lead.tasks(run.run_id))["a"]
        assert failed.reason == evidence_pb2.OUTCOME_INTEGRATION_FAILED
        assert "no a" in failed.message
        assert "a.txt" not in files_at(house.project, ended.head_commit)
