"""Plans run to their end by a lead and workers over gRPC, on a real repository."""

import asyncio
from collections import deque
from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from codeframe.errors import from_rpc_error
from codeframe.v1 import evidence_pb2, lead_pb2, plan_pb2, state_pb2
from services.lead.reads import Reads
from services.lead.servicer import LeadServicer
from services.workers.outcome import Outcome
from services.workers.work import PreviousAttempt, ScopeOverride, TaskWork, VerifyWork
from tests.eventually import eventually
from tests.git_project import branches, bytes_of, files_at
from tests.integration.lead_stage import House, Lead, make_house, task

COMPLETED, FAILED = state_pb2.RUN_STATE_COMPLETED, state_pb2.RUN_STATE_FAILED


async def states(lead: Lead, run_id: str) -> dict[str, str]:
    return {
        name: state_pb2.TaskState.Name(each.state).removeprefix("TASK_STATE_")
        for name, each in (await lead.tasks(run_id)).items()
    }


async def refused(call: "asyncio.Future[object] | object") -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    error = from_rpc_error(caught.value)
    return f"{error.code.name} {error.reason.removeprefix('ERROR_REASON_')}"


async def test_a_plan_of_two_tasks_completes_on_its_branch_alone(house: House) -> None:
    (house.project / "uncommitted.txt").write_text("mine")
    before = bytes_of(house.project)
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("b", "a"), task("a"))
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure
        assert await states(lead, run.run_id) == {"a": "COMPLETED", "b": "COMPLETED"}
        assert (ended.counts.total, ended.counts.completed) == (2, 2)
        assert files_at(house.project, ended.head_commit) == {"a.txt", "b.txt", "codeframe.toml", "verify.sh"}
        assert [one.attempt_id for one in house.script.requests] == [
            f"{run.run_id}.verify-1",
            f"{run.run_id}.a.1",
            f"{run.run_id}.b.1",
        ], "the base once, and each task once: its own tree was green"
        assert ended.usage[0].turns == 2
        assert branches(house.project) == {run.branch: ended.head_commit}, "nothing else, once it has ended"
        await eventually(lambda: not worker.attempts.unreleased)
    assert bytes_of(house.project) == before


async def test_models_scopes_and_commands_of_the_bases_codeframe_toml_reach_the_worker(
    tmp_path: Path,
) -> None:
    toml = (
        '[verification]\ncommand = "sh verify.sh"\n[roles.test]\nmodel = "small"\nallow = ["checks/**"]\n'
        'deny = ["checks/old/**"]\nverification = { command = "sh verify.sh; echo PASS more" }\n'
    )
    house = make_house(tmp_path, **{"codeframe.toml": toml})
    house.script.files["a"] = {"codeframe.toml": "[roles.test]\nmodel = 'its own'\n"}
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b", "a", role="test"), task("c", role="test", model="named"))
        assert (await lead.ended(run.run_id)).state == COMPLETED
        asked = {name: house.script.work(name)[0] for name in "abc"}
        assert {name: work.model for name, work in asked.items()} == {"a": "", "b": "small", "c": "named"}
        assert asked["a"].scope == ScopeOverride()
        assert asked["b"].scope == ScopeOverride(("checks/**",), ("checks/old/**",))
        checks = {one.checks.verification for one in house.script.requests if one.role == "test"}
        assert checks == {"sh verify.sh; echo PASS more"}


async def test_a_defect_that_was_found_ends_its_task_and_spends_no_retry(house: House) -> None:
    house.script.endings["a"] = deque([Outcome.DEFECT_FOUND])
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a", role="test"), task("b", "a"))
        assert (await lead.ended(run.run_id)).state == FAILED
        assert await states(lead, run.run_id) == {"a": "FAILED", "b": "SKIPPED"}
        told = (await lead.tasks(run.run_id))["a"]
        assert (told.reason, told.attempts, told.retries) == (evidence_pb2.OUTCOME_DEFECT_FOUND, 1, 0)


async def test_what_nothing_verifies_is_merged_and_said_to_be_unverified(house: House) -> None:
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("docs", verification="none"), task("code", "docs"))
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure
        assert (ended.counts.completed, ended.counts.unverified) == (2, 1)
        tasks = await lead.tasks(run.run_id)
        assert (tasks["docs"].unverified, tasks["code"].unverified) == (True, False)
        told = await lead.told(run.run_id, "task_status_changed")
        assert [each.task_id for each in told if each.unverified] == ["docs", "docs"], "merging, completed"
        verified = [one for one in house.script.requests if isinstance(one.work, VerifyWork)]
        assert len(verified) == 2, "the base, and the candidate with docs, by what passed at the base"


async def test_every_notice_is_journaled_once_and_in_order_before_its_result(house: House) -> None:
    house.script.notices = 300
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b"))
        await lead.ended(run.run_id)
        sequences: dict[str, list[int]] = {}
        for event in await lead.events(run.run_id):
            if event.sequence:
                sequences.setdefault(event.attempt_id, []).append(event.sequence)
            if event.HasField("attempt_ended"):
                last = event.attempt_ended.last_sequence
                assert sequences[event.attempt_id] == list(range(1, last + 1))
        assert len(sequences[f"{run.run_id}.a.1"]) == 304


async def test_the_artifacts_of_an_attempt_are_held_by_the_lead(house: House) -> None:
    async with house.lead() as lead:
        pass
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        await lead.ended(run.run_id)
        attempt_id = f"{run.run_id}.a.1"
    async with house.lead() as lead:
        listed = await lead.stub.ListArtifacts(lead_pb2.ListArtifactsRequest(attempt_id=attempt_id))
        assert [each.name for each in listed.artifacts] == ["diff", "log", "test-report"]
        call = lead.stub.ReadArtifact(lead_pb2.ReadArtifactRequest(attempt_id=attempt_id, name="log"))
        assert b"".join([part.data async for part in call]) == b"a log\n" * 100_000


async def test_tasks_run_at_the_same_time_up_to_slots_and_concurrency(house: House) -> None:
    house.script.gate(*"abcdef")
    limits = lead_pb2.RunLimits(concurrency=3)
    async with (
        house.worker("one") as one,
        house.worker("two") as two,
        house.lead(one, two) as lead,
    ):
        run = await lead.create(*(task(name) for name in "abcdef"), limits=limits)
        await house.script.until_running(*(f"{run.run_id}.{name}.1" for name in "abc"))
        assert {len(one.attempts.in_flight), len(two.attempts.in_flight)} == {1, 2}, "spread over the workers"
        waiting = (await lead.tasks(run.run_id))["d"]
        assert waiting.waiting_for == state_pb2.WAITING_FOR_SLOT
        house.script.open(*"abcdef")
        assert (await lead.ended(run.run_id)).state == COMPLETED
        assert house.script.busiest <= 4, "three tasks, and a verification"


@pytest.mark.no_cover  # what is held against the loop is its own time, not the tracer's
async def test_a_run_of_ten_thousand_tasks_goes_on_while_others_are_answered(house: House) -> None:
    """Every integration test fails where a loop was held up for a second: this one asks most of it."""
    house.script.gate("t0")
    async with house.worker(slots=1) as worker, house.lead(worker) as lead:
        plan = [task("t0"), *(task(f"t{n}", f"t{n - 1}") for n in range(1, 10_000))]
        run = await lead.create(*plan)
        await house.script.until_running(f"{run.run_id}.t0.1")
        small = await lead.create(task("x"), request_id="small")
        await lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=run.run_id))
        ended = await lead.ended(run.run_id)
        assert (ended.counts.total, ended.counts.cancelled) == (10_000, 10_000)
        assert (await lead.ended(small.run_id)).state == COMPLETED


async def test_ready_tasks_start_by_priority_then_plan_order(house: House) -> None:
    async with house.worker(slots=1) as worker, house.lead(worker) as lead:
        plan = [task("late", priority=4), task("x"), task("y"), task("first", priority=0)]
        run = await lead.create(*plan, limits=lead_pb2.RunLimits(concurrency=1))
        await lead.ended(run.run_id)
        works = (one.work for one in house.script.requests)
        order = [work.task_id for work in works if isinstance(work, TaskWork)]
        assert order == ["first", "x", "y", "late"]


async def test_a_failure_is_retried_and_told_why(house: House) -> None:
    house.script.endings["a"] = deque([Outcome.VERIFICATION_FAILED, Outcome.STUCK])
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        assert (await lead.ended(run.run_id)).state == COMPLETED
        told = [work.previous for work in house.script.work("a")]
        assert told == [
            None,
            PreviousAttempt("verification_failed", "as ordered: verification_failed"),
            PreviousAttempt("stuck", "as ordered: stuck"),
        ]
        done = (await lead.tasks(run.run_id))["a"]
        assert (done.attempts, done.retries) == (3, 2)


async def test_the_next_attempt_is_told_what_the_last_one_changed_and_which_tests_were_red(
    house: House,
) -> None:
    house.script.files["a.1"] = {"red": "wrong\n", "big": "x\n" * 20_000}
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        assert (await lead.ended(run.run_id)).state == COMPLETED
    first, second = house.script.work("a")
    assert first.previous is None
    assert second.previous
    assert (second.start_commit, second.previous.outcome) == ("", "verification_failed")
    assert second.previous.red_tests == "red"
    assert "+++ b/big" in second.previous.diff
    assert second.previous.diff.endswith("[... the rest is left out ...]\n")
    assert len(second.previous.diff) < 25_000


async def test_a_failed_task_skips_its_dependents_and_no_other(house: House) -> None:
    house.script.endings["a"] = deque([Outcome.VERIFICATION_FAILED] * 2)
    limits = lead_pb2.RunLimits(retries=1)
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b", "a"), task("c", "b"), task("d"), limits=limits)
        ended = await lead.ended(run.run_id)
        assert (ended.state, ended.failure.reason) == (FAILED, state_pb2.RUN_FAILURE_REASON_TASKS_FAILED)
        assert await states(lead, run.run_id) == {
            "a": "FAILED",
            "b": "SKIPPED",
            "c": "SKIPPED",
            "d": "COMPLETED",
        }
        assert (await lead.tasks(run.run_id))["a"].reason == evidence_pb2.OUTCOME_VERIFICATION_FAILED
        assert "a" in ended.failure.message
        assert not house.script.work("b")


async def test_a_cancelled_run_ends_its_attempts_and_nothing_changes_after(house: House) -> None:
    house.script.gate("b")
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b", "a"), task("c", "b"))
        await house.script.until_running(f"{run.run_id}.b.1")
        asked = await lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=run.run_id, message="enough"))
        assert asked.run.state in (state_pb2.RUN_STATE_CANCELLING, state_pb2.RUN_STATE_CANCELLED)
        ended = await lead.ended(run.run_id)
        assert ended.state == state_pb2.RUN_STATE_CANCELLED
        assert await states(lead, run.run_id) == {"a": "COMPLETED", "b": "CANCELLED", "c": "CANCELLED"}
        assert not worker.attempts.in_flight
        assert (await lead.attempts(run.run_id))[-1].outcome == evidence_pb2.OUTCOME_CANCELLED
        again = await lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=run.run_id))
        assert again.run == ended
        head = (await lead.journal.run(run.run_id)).head
        await eventually(lambda: not worker.attempts.unreleased)
        assert (await lead.journal.run(run.run_id)).head == head
        assert branches(house.project)[run.branch] == ended.head_commit


async def test_a_caller_that_goes_away_as_its_run_is_made_leaves_one_that_is_conducted(house: House) -> None:
    async with house.worker() as worker, house.lead(worker) as lead:
        await lead.fleet.changed(0)
        servicer = LeadServicer(
            lead.runs, Reads(lead.journal, lead.stage.artifacts), lead.fleet, lead.stage.integrator_of
        )
        plan = plan_pb2.Plan(title="a plan", tasks=[task("a")])
        request = lead_pb2.CreateRunRequest(request_id="q", repository=str(house.project), plan=plan)
        head = (await lead.journal.bounds()).head
        creating = asyncio.create_task(servicer.CreateRun(request, None))
        await lead.journal.changed(head)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        again = (await lead.stub.CreateRun(request)).run
        assert (await lead.ended(again.run_id)).state == COMPLETED
        assert len(branches(house.project)) == 1


async def test_a_run_that_completed_cannot_be_cancelled(house: House) -> None:
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        await lead.ended(run.run_id)
        cancel = lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=run.run_id))
        assert await refused(cancel) == "FAILED_PRECONDITION RUN_ENDED"
        cancel = lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id="none"))
        assert await refused(cancel) == "NOT_FOUND RUN_NOT_FOUND"


async def test_a_runs_time_ends_it(house: House) -> None:
    house.script.gate("a")
    limits = lead_pb2.RunLimits(run_timeout=Duration(seconds=2))
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), limits=limits)
        ended = await lead.ended(run.run_id)
        assert (ended.state, ended.failure.reason) == (FAILED, state_pb2.RUN_FAILURE_REASON_RUN_TIMEOUT)
        took = ended.end_time.ToDatetime() - ended.create_time.ToDatetime()
        assert timedelta(seconds=2) <= took < timedelta(seconds=6)
        assert await states(lead, run.run_id) == {"a": "CANCELLED"}
        assert not worker.attempts.in_flight
        head, left = (await lead.journal.run(run.run_id)).head, branches(house.project)
        house.script.open("a")
        await eventually(lambda: not worker.attempts.unreleased)
        assert (await lead.journal.run(run.run_id)).head == head, "nothing is told of it afterwards"
        assert branches(house.project) == left


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ((task("a", "b"), task("b", "a")), "a → b → a"),
        ((task("a", "a"),), "a"),
        ((task("a", "nobody"),), "nobody"),
        ((task("a"), task("a")), "a"),
        ((), "at least 1"),
    ],
    ids=["cycle", "self", "unknown", "duplicate", "empty"],
)
async def test_a_plan_at_fault_starts_nothing(
    house: House, plan: tuple[plan_pb2.PlannedTask, ...], says: str
) -> None:
    async with house.worker() as worker, house.lead(worker) as lead:
        await lead.fleet.changed(0)
        before = (await lead.journal.bounds()).head
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await lead.create(*plan)
        error = from_rpc_error(caught.value)
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert any(each.field.startswith("plan") and says in each.message for each in error.violations), error
        assert (await lead.journal.bounds()).head == before
        assert branches(house.project) == {}
        assert not house.script.requests


async def test_an_exact_repeat_makes_one_run_and_another_payload_is_refused(house: House) -> None:
    async with house.worker() as worker, house.lead(worker) as lead:
        made = await asyncio.gather(*(lead.create(task("a")) for _ in range(8)))
        assert len({run.run_id for run in made}) == 1
        assert await refused(lead.create(task("b"))) == "ALREADY_EXISTS IDEMPOTENCY_KEY_REUSED"
        await lead.ended(made[0].run_id)
        assert (await lead.create(task("a"))).state == COMPLETED
        await eventually(lambda: list(branches(house.project)) == [made[0].branch])
