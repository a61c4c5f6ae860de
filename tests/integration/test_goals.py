"""Goals that become plans, and plans that are done, by a lead and workers over gRPC."""

import hashlib
from collections import deque
from typing import Any

import grpc.aio
import pytest
from google.protobuf import json_format

from codeframe.v1 import evidence_pb2, lead_pb2, plan_pb2, state_pb2
from services.workers.outcome import Outcome
from services.workers.work import AttemptRequest, PlanWork
from tests.git_project import branches, files_at
from tests.integration.lead_stage import House, Lead, task

COMPLETED, FAILED = state_pb2.RUN_STATE_COMPLETED, state_pb2.RUN_STATE_FAILED
ROLES = ("backend", "frontend", "test", "planner")


def plan(*tasks: plan_pb2.PlannedTask) -> bytes:
    return json_format.MessageToJson(plan_pb2.Plan(title="What it takes", tasks=tasks)).encode()


def planning(house: House) -> list[tuple[AttemptRequest, PlanWork]]:
    """The planning attempts that workers were asked for."""
    asked = ((one, one.work) for one in house.script.requests)
    return [(one, work) for one, work in asked if isinstance(work, PlanWork)]


async def read(lead: Lead, attempt_id: str, name: str) -> bytes:
    request = lead_pb2.ReadArtifactRequest(attempt_id=attempt_id, name=name)
    call: Any = lead.stub.ReadArtifact(request)
    return b"".join([response.data async for response in call])


async def test_a_goal_becomes_a_plan_that_is_told_and_then_done(house: House) -> None:
    proposed = plan(task("a"), task("b", "a", role="test"))
    house.script.plans.append(proposed)
    async with house.worker(roles=ROLES) as worker, house.lead(worker) as lead:
        run = await lead.create_goal("Sell more.\nSoon.")
        assert (run.title, run.goal, run.state) == (
            "Sell more.",
            "Sell more.\nSoon.",
            state_pb2.RUN_STATE_PLANNING,
        )
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure
        assert files_at(house.project, ended.head_commit) >= {"a.txt", "b.txt"}
        kinds = [event.WhichOneof("payload") for event in await lead.events(run.run_id)]
        assert kinds[:9] == [
            "run_status_changed",
            "attempt_started",
            "activity_update",
            "usage_recorded",
            "attempt_ended",
            "plan_proposed",
            "task_status_changed",
            "task_status_changed",
            "task_blocked",
        ]
        (told,) = await lead.told(run.run_id, "plan_proposed")
        assert [(each.task_id, each.role, list(each.depends_on)) for each in told.tasks] == [
            ("a", "backend", []),
            ("b", "test", ["a"]),
        ]
        assert (told.title, told.task_count) == ("What it takes", 2)
        assert told.plan.sha256 == hashlib.sha256(proposed).hexdigest()
        assert await read(lead, f"{run.run_id}.plan-1", told.plan.name) == proposed
        ((request, work),) = planning(house)
        assert (work.goal, work.roles) == (run.goal, ("backend", "frontend", "test"))
        assert (request.role, work.base_commit) == ("planner", run.base_commit)
        assert ended.usage[0].turns == 3, "planning is paid for, too"
        first = (await lead.attempts(run.run_id))[0]
        assert (first.kind, first.task_id, first.number) == (state_pb2.ATTEMPT_KIND_PLAN, "", 1)


async def test_a_plan_that_the_lead_finds_invalid_is_made_again_and_told_why(house: House) -> None:
    cycle = plan(task("a", "b"), task("b", "a"))
    house.script.plans += [b"{", cycle, plan(task("a", role="planner"))]
    house.script.plans += [plan(task("a"))]
    async with house.worker(roles=ROLES) as worker, house.lead(worker) as lead:
        run = await lead.create_goal("Sell more.")
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure
        told = [work.previous.message if work.previous else "" for _, work in planning(house)]
        assert len(told) == 4
        assert "ProtoJSON" in told[1]
        assert "a → b → a" in told[2]
        assert "plan.tasks[0].role: the role planner makes plans" in told[3]
        outcomes = [attempt.outcome for attempt in await lead.attempts(run.run_id)][:4]
        assert outcomes == [evidence_pb2.OUTCOME_VERIFICATION_FAILED] * 3 + [evidence_pb2.OUTCOME_SUCCEEDED]
        assert len(await lead.told(run.run_id, "plan_proposed")) == 1


async def test_planning_that_fails_for_good_fails_the_run(house: House) -> None:
    house.script.endings["plan"] = deque([Outcome.STUCK, Outcome.REFUSED])
    async with house.worker(roles=ROLES) as worker, house.lead(worker) as lead:
        run = await lead.create_goal("Sell more.")
        ended = await lead.ended(run.run_id)
        assert (ended.state, ended.counts.total) == (FAILED, 0)
        assert ended.failure.reason == state_pb2.RUN_FAILURE_REASON_PLANNING_FAILED
        assert "REFUSED" in ended.failure.message


async def test_a_cancel_ends_planning(house: House) -> None:
    house.script.gate("plan")
    async with house.worker(roles=ROLES) as worker, house.lead(worker) as lead:
        run = await lead.create_goal("Sell more.")
        await house.script.until_waiting(f"{run.run_id}.plan-1")
        await lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=run.run_id))
        ended = await lead.ended(run.run_id)
        assert ended.state == state_pb2.RUN_STATE_CANCELLED
        assert [attempt.outcome for attempt in await lead.attempts(run.run_id)] == [
            evidence_pb2.OUTCOME_CANCELLED
        ]


@pytest.mark.parametrize("fails", [False, True])
async def test_that_no_worker_plans_is_said_at_once(house: House, fails: bool) -> None:
    policy = lead_pb2.UNSERVED_ROLE_POLICY_FAIL if fails else lead_pb2.UNSERVED_ROLE_POLICY_WAIT
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create_goal("Sell more.", unserved_role=policy)
        told = await lead.until(run.run_id, lambda run: bool(run.unserved_roles) or fails)
        if fails:
            told = await lead.ended(run.run_id)
            assert told.failure.reason == state_pb2.RUN_FAILURE_REASON_NO_WORKER
            assert "planner" in told.failure.message
        else:
            assert list(told.unserved_roles) == ["planner"]
            assert told.state == state_pb2.RUN_STATE_PLANNING
        changes = await lead.told(run.run_id, "run_status_changed")
        assert list(changes[1].unserved_roles) == ["planner"]


async def test_a_goal_of_blanks_is_refused_and_nothing_is_written(house: House) -> None:
    async with house.lead() as lead:
        with pytest.raises(grpc.aio.AioRpcError, match="goal: is blank"):
            await lead.create_goal(" \n")
        assert not (await lead.stub.ListRuns(lead_pb2.ListRunsRequest())).runs
        assert branches(house.project) == {}
