"""Bad input, through a real lead: an error that names it, and nothing written; or said, and waited for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from codeframe.errors import CodeframeError, from_rpc_error
from codeframe.v1 import lead_pb2, plan_pb2, state_pb2
from tests.git_project import branches, bytes_of, commit_files, git
from tests.integration.lead_stage import House, Lead, make_house, task

COMPLETED = state_pb2.RUN_STATE_COMPLETED


async def refusal(lead: Lead, *tasks: plan_pb2.PlannedTask, **more: Any) -> CodeframeError:
    """How a run is refused, once it is seen that nothing is written."""
    request = {"repository": str(lead.project), **more}
    plan = plan_pb2.Plan(title="a plan", tasks=tasks or (task("a"),))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await lead.stub.CreateRun(lead_pb2.CreateRunRequest(request_id="q", plan=plan, **request))
    assert not (await lead.stub.ListRuns(lead_pb2.ListRunsRequest())).runs
    if (lead.project / ".git").exists():
        assert branches(lead.project) == {}
    error = from_rpc_error(caught.value)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    return error


def told(error: CodeframeError) -> tuple[str, list[str]]:
    """A refusal's reason, and the fields that it names."""
    return error.reason.removeprefix("ERROR_REASON_"), [each.field for each in error.violations]


async def test_a_task_without_a_title(house: House) -> None:
    async with house.lead() as lead:
        untitled = plan_pb2.PlannedTask(id="a", description="Do it")
        assert told(await refusal(lead, untitled)) == ("INVALID_REQUEST", ["plan.tasks[0].title"])
        untitled.title = "  "
        error = await refusal(lead, task("b"), untitled)
        assert told(error) == ("INVALID_PLAN", ["plan.tasks[1].title"])
        assert "task 'a' has no title" in error.message


async def test_a_folder_that_is_no_repository(house: House) -> None:
    (house.folder / "empty").mkdir()
    commit_files(house.project, {"sub/a": ""})
    says = {
        "empty": "is no git repository; name one, or make one with `git init`, and commit",
        "nowhere": "there is no such folder",
        "project/sub": f"is a folder of the repository {house.project}; name that",
    }
    async with house.lead() as lead:
        for where, why in says.items():
            for url in (str(house.folder / where), (house.folder / where).as_uri()):
                error = await refusal(lead, repository=url)
                assert told(error) == ("INVALID_REPOSITORY", ["repository"])
                assert error.message.startswith(url)
                assert why in error.message
        error = await refusal(lead, repository="ssh://127.0.0.1:9/shop.git")
        assert "Please make sure" not in error.message
        assert error.message.startswith("ssh://127.0.0.1:9/shop.git cannot be read as a git repository: ")
        assert list((house.folder / "empty").iterdir()) == []


async def test_a_repository_without_a_commit(house: House) -> None:
    bare = house.folder / "new"
    bare.mkdir()
    git(bare, "init", "--quiet")
    async with house.lead() as lead:
        error = await refusal(lead, repository=str(bare))
        assert told(error) == ("INVALID_BASE", ["base"])
        assert "has no commit; make one first" in error.message


async def test_a_base_that_is_gone(house: House) -> None:
    git(house.project, "checkout", "--quiet", "-b", "topic")
    commit = commit_files(house.project, {"x": "1"})
    git(house.project, "checkout", "--quiet", "-")
    git(house.project, "branch", "-D", "topic")
    git(house.project, "reflog", "expire", "--expire=now", "--all")
    git(house.project, "gc", "--quiet", "--prune=now")
    async with house.lead() as lead:
        for base in ("topic", commit):
            error = await refusal(lead, base=base)
            assert told(error) == ("INVALID_BASE", ["base"])
            assert base in error.message


async def test_a_codeframe_toml_with_an_unknown_key(tmp_path: Path) -> None:
    house = make_house(tmp_path, **{"codeframe.toml": "[verification]\ncomand = 'make test'\n"})
    async with house.lead() as lead:
        error = await refusal(lead)
        assert told(error) == ("INVALID_REPOSITORY", ["repository"])
        assert "codeframe.toml:2:1: verification.comand: unknown key; did you mean command?" in error.message
        assert "mend it and commit" in error.violations[0].message


@pytest.mark.parametrize("fails", [True, False])
async def test_a_role_that_no_worker_serves(house: House, fails: bool) -> None:
    policy = lead_pb2.UNSERVED_ROLE_POLICY_FAIL if fails else lead_pb2.UNSERVED_ROLE_POLICY_WAIT
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b", role="painter"), unserved_role=policy)
        if fails:
            ended = await lead.ended(run.run_id)
            assert ended.failure.reason == state_pb2.RUN_FAILURE_REASON_NO_WORKER
            assert "no worker serves painter: start one; then create" in ended.failure.message
            assert house.script.requests == [], "nothing was started"
        else:
            waiting = await lead.until(run.run_id, lambda run: run.counts.completed == 1)
            assert list(waiting.unserved_roles) == ["painter"]
            left = (await lead.tasks(run.run_id))["b"]
            assert (left.state, left.waiting_for) == (
                state_pb2.TASK_STATE_PENDING,
                state_pb2.WAITING_FOR_WORKER,
            )
        changes = await lead.told(run.run_id, "run_status_changed")
        assert list(changes[1].unserved_roles) == ["painter"], "it is said at once"


async def test_a_bare_repository_is_fine(house: House) -> None:
    bare = house.folder / "shop.git"
    git(house.folder, "clone", "--quiet", "--bare", str(house.project), str(bare))
    house = replace(house, project=bare)
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        ended = await lead.ended(run.run_id)
        assert (ended.state, ended.project) == (COMPLETED, "shop")
        assert branches(bare)[ended.branch] == ended.head_commit


async def test_what_is_not_committed_or_merged_halfway_is_neither_seen_nor_touched(house: House) -> None:
    git(house.project, "checkout", "--quiet", "-b", "other")
    commit_files(house.project, {"verify.sh": "echo PASS theirs\n"})
    git(house.project, "checkout", "--quiet", "-")
    head = commit_files(house.project, {"verify.sh": "echo PASS ours\n"})
    with pytest.raises(Exception, match="returned non-zero"):
        git(house.project, "merge", "other")
    (house.project / "codeframe.toml").write_text("not = even [ toml")
    before = bytes_of(house.project)
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        ended = await lead.ended(run.run_id)
        assert (ended.state, ended.base_commit) == (COMPLETED, head), ended.failure
    assert bytes_of(house.project) == before
