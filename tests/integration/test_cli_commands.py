"""The command line as a process, over a lead that a test holds."""

import json
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from codeframe.cli.__main__ import main
from codeframe.errors import Violation
from codeframe.planfile import read_plan
from codeframe.v1 import budget_pb2, events_pb2, evidence_pb2, lead_pb2, state_pb2
from services.runtime.errors import FailedPrecondition, InvalidArgument
from tests.canned_lead import CannedLead, serve
from tests.command import Command, codeframe, told
from tests.git_project import branches, commit_files, git, make_project

SHOP = "ssh://git@127.0.0.1/shop.git"
"""A repository that only the lead would reach."""

PLAN = "title: Orders\ntasks:\n- id: api\n  title: The API\n  description: Do it\n  depends_on: [db]\n"
PLAN += "- id: db\n  title: The database\n  description: Do it\n"


@pytest.fixture
def lead() -> CannedLead:
    counts = lead_pb2.TaskCounts(total=2, completed=1, in_progress=1)
    run = lead_pb2.Run(
        run_id="r1",
        project="shop",
        title="Orders [bold]",
        state=state_pb2.RUN_STATE_RUNNING,
        counts=counts,
        repository="/nowhere/shop",
        base_commit="b" * 40,
        head_commit="c" * 40,
        branch="codeframe/r1/head",
        create_time=Timestamp(seconds=1_700_000_000),
        usage=[evidence_pb2.ModelUsage(model="claude-x", turns=3, input_tokens=1000, output_tokens=50)],
    )
    tasks = [
        lead_pb2.Task(run_id="r1", task_id="api", role="backend", state=state_pb2.TASK_STATE_IN_PROGRESS),
        lead_pb2.Task(
            run_id="r1",
            task_id="db",
            role="backend",
            state=state_pb2.TASK_STATE_COMPLETED,
            commit="d" * 40,
            attempts=1,
        ),
    ]
    verification = evidence_pb2.Verification(
        command="pytest", commit="d" * 40, green=True, passed=4, sandbox_mode="none"
    )
    result = evidence_pb2.TaskResult(
        attempt_id="r1.db.1",
        commit="d" * 40,
        commit_subject="feat(db): The database",
        verifications=[verification],
        corrections=1,
        files=[evidence_pb2.FileChange(path="db.py")],
        file_count=1,
        usage=[evidence_pb2.ModelUsage(model="claude-x", turns=3, scripted=True)],
        sandbox_mode="none",
        model_endpoint="http://127.0.0.1:9",
        artifacts=[evidence_pb2.Artifact(name="diff", size=12)],
    )
    attempt = lead_pb2.Attempt(
        attempt_id="r1.db.1",
        run_id="r1",
        task_id="db",
        number=1,
        agent_id="backend/backend",
        outcome=evidence_pb2.OUTCOME_SUCCEEDED,
        result=result,
    )
    worker = lead_pb2.Worker(
        name="backend", address="127.0.0.1:50061", roles=["backend"], slots=2, sandbox_mode="none"
    )
    worker.provider_pauses.add(model_family="claude-sonnet", resume_time=Timestamp(seconds=43385))
    return CannedLead(runs=[run], tasks=tasks, attempts=[attempt], workers=[worker])


async def end(lead: CannedLead, state: state_pb2.RunState.ValueType) -> None:
    lead.runs[0].state = state
    changed = events_pb2.RunStatusChanged(status=state)
    await lead.tell(events_pb2.Event(run_id="r1", run_status_changed=changed), ended=lead.runs[0])


async def test_runs_workers_and_cancel(lead: CannedLead) -> None:
    async with serve(lead) as address:
        code, out = await told("runs", "--lead", address)
        assert code == 0
        row = out.splitlines()[1].split()
        assert row == ["r1", "shop", "RUNNING", "1/2", "2023-11-14", "22:13", "Orders", "[bold]"]
        code, out = await told("workers", "--lead", address)
        assert (code, out.splitlines()[1].split()[:3]) == (0, ["backend", "127.0.0.1:50061", "backend"])
        assert "none" in out
        assert "claude-sonnet paused until 12:03:05" in " ".join(out.split())
        assert await told("cancel", "r1", "--lead", address) == (0, "run r1: RUNNING\n")
        lead.refuse("CancelRun", FailedPrecondition("RUN_ENDED", "run r1 has ended before"))
        assert await told("cancel", "r1", "--lead", address) == (1, "Error: run r1 has ended before\n")
        assert await told("show", "nope", "--lead", address) == (1, "Error: no run nope\n")


async def test_show_without_a_run_shows_the_newest(lead: CannedLead) -> None:
    async with serve(lead) as address:
        code, out = await told("show", "--lead", address)
        assert (code, out.splitlines()[0]) == (0, "run r1 RUNNING: Orders [bold]")
        lead.runs.clear()
        none = "Error: there is no run yet: start one with `codeframe run`\n"
        assert await told("show", "--lead", address) == (1, none)


async def test_show_says_why_a_verification_was_red(lead: CannedLead) -> None:
    red = evidence_pb2.Verification(command="pytest", commit="e" * 40, failed=1, summary="red: t.py::test_a")
    lead.attempts[0].result.verifications.insert(0, red)
    async with serve(lead) as address:
        _, out = await told("show", "r1", "--lead", address)
    shown = out[out.index("red: 0 passed, 1 failed") :].splitlines()
    assert shown[1] == "    red: t.py::test_a"
    assert shown[2].startswith("  green: 4 passed")


async def test_show_says_that_what_is_red_in_a_green_verification_was_red_before(lead: CannedLead) -> None:
    lead.attempts[0].result.verifications[-1].failed = 1
    async with serve(lead) as address:
        _, out = await told("show", "r1", "--lead", address)
    assert out.count("green: 4 passed, 1 failed (at the base, too), 0 skipped") == 2


async def test_show_says_what_nothing_verified(lead: CannedLead) -> None:
    lead.runs[0].counts.unverified = 1
    lead.tasks[1].unverified = True
    result = lead.attempts[0].result
    result.unverified = True
    result.ClearField("verifications")
    async with serve(lead) as address:
        code, out = await told("show", "r1", "--lead", address)
        _, listed = await told("runs", "--lead", address)
    assert code == 0
    assert "1/2, 1 UNVERIFIED" in listed
    assert "green" not in out
    row = next(line for line in out.splitlines() if line.lstrip().startswith("db"))
    assert "completed UNVERIFIED" in row
    assert "UNVERIFIED: the plan says verification: none; 1 file" in out
    assert "UNVERIFIED: nothing verified 1 completed task, as the plan says" in out


async def test_show_says_whether_new_tests_notice_wrong_code(lead: CannedLead) -> None:
    check = lead.attempts[0].result.mutation_check
    said = []
    async with serve(lead) as address:
        for tried, failed_test, not_done in ((1, "t.py::test_a", ""), (2, "", ""), (0, "", "no code")):
            del check.tried[:]
            for line in range(tried):
                check.tried.add(path="shop.py", line=line + 2, before="a + b", after="None")
            check.failed_test, check.not_done = failed_test, not_done
            _, out = await told("show", "r1", "--lead", address)
            said.append(out)
    noticed, unnoticed, untried = said
    assert "; a wrong change is noticed; " in noticed
    change = "shop.py:2: a + b became None"
    assert f"t.py::test_a noticed the last of 1 wrong change of the code under test: {change}" in noticed
    assert "no new test noticed any of 2 wrong changes of the code under test" in unnoticed
    assert "no wrong change was tried: no code" in untried


async def test_show_has_the_evidence(lead: CannedLead) -> None:
    lead.artifacts["r1.db.1", "diff"] = b"diff --git a\n"
    async with serve(lead) as address:
        code, out = await told("show", "r1", "--lead", address)
        assert code == 0
        assert await told("show", "r1", "--artifact", "r1.db.1", "diff", "--lead", address) == (
            0,
            "diff --git a\n",
        )
    for part in (
        "run r1 RUNNING: Orders [bold]",
        "branch     codeframe/r1/head at " + "c" * 40,
        "green: 4 passed, 0 failed, 0 skipped by pytest; 1 file; 1 correction; sandbox none",
        "r1.db.1  succeeded",
        "model at http://127.0.0.1:9",
        "artifact diff: 12 bytes",
        "SANDBOX NONE",
        "SCRIPTED: replies came from a scripted stand-in, not from a model",
        "the model was asked at http://127.0.0.1:9, not at Anthropic",
        "total           claude-x      3  1,000           0         0   50  cost unknown",
        "git fetch /nowhere/shop codeframe/r1/head",
        "git diff bbbbbbbbbb..FETCH_HEAD",
    ):
        assert part in out


@pytest.mark.parametrize(
    ("state", "code"), [(state_pb2.RUN_STATE_COMPLETED, 0), (state_pb2.RUN_STATE_FAILED, 1)]
)
async def test_watch_follows_the_newest_to_its_end(
    lead: CannedLead, state: state_pb2.RunState.ValueType, code: int
) -> None:
    async with serve(lead) as address, codeframe("watch", "--lead", address) as command:
        await command.prints("SANDBOX NONE")
        await lead.watched(1)
        changed = events_pb2.TaskStatusChanged(
            task_id="api",
            status=state_pb2.TASK_STATE_IN_PROGRESS,
            phase=state_pb2.TASK_PHASE_VERIFYING,
        )
        await lead.tell(events_pb2.Event(run_id="r1", task_status_changed=changed))
        await command.prints("api: in progress, verifying\n")
        await lead.break_watches()
        await end(lead, state)
        assert await command.ends() == code
        name = state_pb2.RunState.Name(state).removeprefix("RUN_STATE_")
        assert f"run: {name}\n" in command.out
        assert f"run r1 {name}: Orders" in command.out


async def test_ctrl_c_leaves_a_watch_at_once(lead: CannedLead) -> None:
    async with serve(lead) as address, codeframe("watch", "r1", "--lead", address) as command:
        await lead.watched(1)
        await command.prints("SANDBOX NONE")
        command.process.send_signal(signal.SIGINT)
        assert await command.ends() == 130
        assert "`codeframe watch r1` returns to it" in command.out
    assert lead.asked("CancelRun") == []


async def test_a_goal_is_followed_through_its_planning(lead: CannedLead, tmp_path: Path) -> None:
    lead.same_run, tasks = True, lead.tasks
    lead.tasks, lead.runs[0].state = [], state_pb2.RUN_STATE_PLANNING
    arguments = ("run", "--goal", "Sell more.", "--repo", SHOP)
    async with serve(lead) as address, codeframe(*arguments, "--lead", address) as command:
        await lead.watched(1)
        await command.prints("no tasks yet")
        lead.tasks = tasks
        proposed = events_pb2.PlanProposed(title="Orders", task_count=2)
        await lead.tell(events_pb2.Event(run_id="r1", plan_proposed=proposed))
        await command.prints("the plan: Orders\n  api [backend] \n  db [backend] \n")
        await end(lead, state_pb2.RUN_STATE_COMPLETED)
        assert await command.ends() == 0
    (asked,) = lead.asked("CreateRun")
    assert (asked.goal, asked.WhichOneof("work"), asked.repository) == ("Sell more.", "goal", SHOP)


@pytest.mark.parametrize("made", [True, False])
async def test_a_goals_plan_is_written_and_not_done(lead: CannedLead, tmp_path: Path, made: bool) -> None:
    lead.same_run, lead.tasks, lead.attempts = True, [], []
    lead.runs[0].state = state_pb2.RUN_STATE_PLANNING
    file = tmp_path / "made.yaml"
    arguments = ("run", "--goal", "Sell more.", "--repo", SHOP, "--plan-only", str(file))
    async with serve(lead) as address, codeframe(*arguments, "--lead", address) as command:
        await lead.watched(1)
        await command.prints("no tasks yet")
        if made:
            planned = {"kind": state_pb2.ATTEMPT_KIND_PLAN, "outcome": evidence_pb2.OUTCOME_SUCCEEDED}
            lead.attempts = [lead_pb2.Attempt(run_id="r1", attempt_id="r1.plan-1", **planned)]  # type: ignore[arg-type]
            task = {"id": "a", "title": "A", "description": "D", "role": "backend"}
            lead.artifacts["r1.plan-1", "plan"] = json.dumps({"title": "T", "tasks": [task]}).encode()
            proposed = events_pb2.PlanProposed(title="T", task_count=1)
            await lead.tell(events_pb2.Event(run_id="r1", plan_proposed=proposed))
        await end(lead, state_pb2.RUN_STATE_CANCELLED if made else state_pb2.RUN_STATE_FAILED)
        assert await command.ends() == (0 if made else 1)
    assert [each.run_id for each in lead.asked("CancelRun")] == ["r1"]
    if made:
        assert f"wrote {file}; do it with: codeframe run {file} --repo /nowhere/shop" in command.out
        assert read_plan(file.read_text(), "made.yaml").plan.tasks[0].role == "backend"
    else:
        assert "no plan was made" in command.out
        assert not file.exists()


@asynccontextmanager
async def running(lead: CannedLead, folder: Path) -> AsyncIterator[Command]:
    """`codeframe run`, following."""
    plan = folder / "plan.yaml"
    plan.write_text(PLAN)
    async with serve(lead) as address:
        arguments = ("run", str(plan), "--repo", SHOP, "--lead", address)
        budget = ("--budget", "dollars=2.50", "--budget", "time=3h")
        async with codeframe(*arguments, "--timeout", "1h30m", "--concurrency", "3", *budget) as command:
            await command.prints("SANDBOX NONE")
            await lead.watched(1)
            yield command


@pytest.fixture
def asked_again(lead: CannedLead) -> CannedLead:
    """A lead that has the run already, and takes any CreateRun for it."""
    lead.same_run = True
    return lead


async def test_a_run_is_asked_for_and_followed(asked_again: CannedLead, tmp_path: Path) -> None:
    lead = asked_again
    async with running(lead, tmp_path) as command:
        await end(lead, state_pb2.RUN_STATE_COMPLETED)
        assert await command.ends() == 0
    request = lead.asked("CreateRun")[0]
    assert request.repository == SHOP
    assert request.plan.tasks[0].depends_on == ["db"]
    assert request.limits.run_timeout.seconds == 5400
    assert request.limits.concurrency == 3
    assert request.budget == budget_pb2.Budget(cost_micros=2_500_000, wall_time=Duration(seconds=10_800))
    assert not request.limits.HasField("retries")


async def test_a_second_ctrl_c_cancels_the_run(asked_again: CannedLead, tmp_path: Path) -> None:
    lead = asked_again
    async with running(lead, tmp_path) as command:
        command.process.send_signal(signal.SIGINT)
        await command.prints("detaching in 5 s; the run goes on, and `codeframe watch r1` returns to it")
        command.process.send_signal(signal.SIGINT)
        await command.prints("cancelling the run")
        await end(lead, state_pb2.RUN_STATE_CANCELLED)
        assert await command.ends() == 130
        assert "run r1 CANCELLED" in command.out
    assert lead.asked("CancelRun")[0].run_id == "r1"


async def test_one_ctrl_c_detaches(asked_again: CannedLead, tmp_path: Path) -> None:
    lead = asked_again
    async with running(lead, tmp_path) as command:
        command.process.send_signal(signal.SIGINT)
        assert await command.ends() == 130
    assert lead.asked("CancelRun") == []


async def test_a_lead_that_stays_away_is_said_and_waited_for(
    lead: CannedLead, tmp_path: Path, unused_tcp_port: int
) -> None:
    lead.same_run = True
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    address = f"127.0.0.1:{unused_tcp_port}"
    async with codeframe("run", str(plan), "--repo", SHOP, "--lead", address) as command:
        async with serve(lead, unused_tcp_port):
            await lead.watched(1)
        await command.prints("the lead does not answer")
        async with serve(lead, unused_tcp_port):
            await end(lead, state_pb2.RUN_STATE_COMPLETED)
            assert await command.ends() == 0


async def test_what_the_lead_finds_in_a_plan_is_shown_by_its_lines(lead: CannedLead, tmp_path: Path) -> None:
    violations = [
        Violation("plan.tasks[0].depends_on[0]", "no task is called 'db'"),
        Violation("plan.tasks", "api → api"),
        Violation("base", "no such branch"),
    ]
    lead.refuse("CreateRun", InvalidArgument("INVALID_PLAN", "the plan cannot run", violations=violations))
    (tmp_path / "plan.yaml").write_text(PLAN)
    async with serve(lead) as address:
        arguments = ("run", "plan.yaml", "--repo", SHOP, "--lead", address)
        async with codeframe(*arguments, cwd=tmp_path) as command:
            assert await command.ends() == 2
    assert command.out.splitlines() == [
        "Error: plan.yaml:6:16: tasks[0].depends_on[0]: no task is called 'db'",
        "plan.yaml:3:1: tasks: api → api",
        "base: no such branch",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan.yaml"], "Missing option '--repo'"),
        (["--repo", "."], "give a PLAN, or say what is to be reached with --goal TEXT"),
        (["plan.yaml", "--plan-only", "x", "--repo", "."], "--plan-only goes with --goal"),
        (["--goal", "x", "--plan-only", "bad.yaml", "--repo", "."], "bad.yaml: is there already"),
        (["plan.yaml", "--goal", "x", "--repo", "."], "give a PLAN, or say"),
        (["--goal", " ", "--repo", "."], "--goal: is blank"),
        (["nope.yaml", "--repo", "."], "nope.yaml: No such file or directory"),
        (["bad.yaml", "--repo", "."], "bad.yaml:1:1: tasks: is missing"),
        (
            ["cycle.yaml", "--repo", "."],
            "cycle.yaml:3:1: tasks: the tasks depend on each other in a cycle: api → db",
        ),
        (["binary.yaml", "--repo", "."], "binary.yaml: not UTF-8 text"),
        (["plan.yaml", "--repo", "nope"], "--repo nope: no such folder"),
        (["plan.yaml", "--repo", "."], "name the folder of one, or make one with `git init`, and commit"),
        (["plan.yaml", "--repo", ".", "--timeout", "soon"], "'soon' is not a duration"),
        (["plan.yaml", "--repo", ".", "--budget", "euros=5"], "'euros=5' is not KIND=AMOUNT"),
        (["plan.yaml", "--repo", ".", "--budget", "turns=0"], "turns: '0' is not a whole number"),
        (["plan.yaml", "--repo", ".", *["--budget", "turns=1"] * 2], "turns is given twice"),
        (["plan.yaml", "--repo", ".", "--concurrency", "0"], "Invalid value for '--concurrency'"),
        (["plan.yaml", "--repo", ".", "--lead", "here"], "'here' is not HOST:PORT"),
        (
            ["plan.yaml", "--repo", SHOP, "--lead", "127.0.0.1:1", "--sandbox", "none"],
            "--sandbox is for workers",
        ),
    ],
)
def test_bad_usage_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CODEFRAME_LEAD", raising=False)
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "bad.yaml").write_text("title: T")
    (tmp_path / "cycle.yaml").write_text(PLAN + "  depends_on: [api]\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    result = CliRunner().invoke(main, ["run", *arguments])
    assert result.exit_code == 2
    assert said in result.output


async def test_a_run_is_cleaned_in_its_own_repository_once_it_has_ended(
    lead: CannedLead, tmp_path: Path
) -> None:
    shop = tmp_path / "shop"
    make_project(shop, {"a": "1"})
    git(shop, "branch", "codeframe/r1/head")
    git(shop, "checkout", "--quiet", "-b", "codeframe/r1/attempts/api/1")
    commit_files(shop, {"a": "2"}, "feat(api): did not pass")
    git(shop, "checkout", "--quiet", "-")
    lead.runs[0].repository = str(shop)
    going_on = (2, "Error: run r1 is RUNNING; end it first: codeframe cancel r1\n")
    unmerged = "codeframe/r1/attempts/api/1: 1 commit on no other branch, the last: feat(api): did not pass\n"
    async with serve(lead) as address:
        assert await told("clean", "r1", "--lead", address) == going_on
        assert await told("clean", "r1", "--lead", address, "--repo", str(shop), "--yes") == going_on
        code, out = await told("clean", "r2", "--lead", address, "--repo", str(shop))
        assert (code, out) == (0, f"run r2 has no branches in {shop}\n")
        lead.runs[0].state = state_pb2.RUN_STATE_FAILED
        kept = "the rest is kept; delete it, too, with: codeframe clean r1 --yes\n"
        code, out = await told("clean", "r1", "--lead", address)
        assert (code, out) == (1, f"{unmerged}deleted 1 of 2 branches of run r1\n{kept}")
        lead.runs.clear()
        code, out = await told("clean", "r1", "--lead", address, "--repo", str(shop))
        assert (code, f"the lead at {address} does not know it" in out) == (1, True)
        assert list(branches(shop)) == ["codeframe/r1/attempts/api/1"]


@pytest.mark.parametrize("merging", [True, False])
async def test_what_a_run_will_not_see_of_a_working_tree_is_a_warning(
    asked_again: CannedLead, tmp_path: Path, merging: bool
) -> None:
    shop = tmp_path / "shop"
    make_project(shop, {"a": "1"})
    if merging:
        git(shop, "checkout", "--quiet", "-b", "other")
        commit_files(shop, {"a": "2"})
        git(shop, "checkout", "--quiet", "-")
        commit_files(shop, {"a": "3"})
        with pytest.raises(subprocess.CalledProcessError):
            git(shop, "merge", "other")
    else:
        (shop / "new.txt").write_text("x")
    (tmp_path / "plan.yaml").write_text(PLAN)
    arguments = ("run", str(tmp_path / "plan.yaml"), "--repo", str(shop))
    async with serve(asked_again) as address, codeframe(*arguments, "--lead", address) as command:
        if merging:
            await command.prints(f"warning: a merge is under way in {shop}")
        name = "a" if merging else "new.txt"
        await command.prints(f"warning: what is not committed in {shop} is not seen by a run: {name}\n")
        await end(asked_again, state_pb2.RUN_STATE_COMPLETED)
        assert await command.ends() == 0


async def test_no_lead_is_said_with_what_to_do(tmp_path: Path) -> None:
    code, out = await told("runs", "--data-dir", str(tmp_path / "state"))
    assert code == 1
    assert out.startswith(f"Error: no lead is running in {tmp_path}/state: start one with `codeframe up`")
    assert not (tmp_path / "state").exists()


async def test_a_fault_of_the_lead_is_not_bad_usage(lead: CannedLead, tmp_path: Path) -> None:
    lead.refuse("CreateRun", *([grpc.StatusCode.UNAVAILABLE] * 2))
    lead.refuse("CreateRun", FailedPrecondition("RUN_ENDED", "cannot be"))
    (tmp_path / "plan.yaml").write_text(PLAN)
    async with serve(lead) as address:
        code, out = await told("run", str(tmp_path / "plan.yaml"), "--repo", SHOP, "--lead", address)
    assert (code, out) == (1, "Error: cannot be\n")
