"""A goal's way to a plan, one situation at a time."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.lead.machine import events as e
from services.lead.machine import happenings as h
from services.lead.machine.attempt import AttemptKind
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import Ending, RunFailureReason, RunLimits, RunState
from services.lead.machine.task import WaitingFor
from services.lead.machine.wanted import CancelAttempt, WakeAt, placements
from tests.unit.lead.machine_driver import BASE, Driver, task


def with_goal(**more: object) -> Driver:
    driver = Driver(task("a"), task("b", "a", role="test"), goal="make it so", **more)  # type: ignore[arg-type]
    driver.serve()
    return driver


def kinds(events: list[e.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_goal_is_planned_first_on_the_base_by_the_role_planner() -> None:
    driver = with_goal()
    (placement,) = placements(driver.run)
    assert (placement.kind, placement.role, placement.base) == (AttemptKind.PLAN, "planner", BASE)
    assert (placement.attempt_id, placement.number) == ("r.plan-1", 1)
    assert (driver.run_state(), len(driver.run.tasks)) == (RunState.PLANNING, 0)
    driver.bind()
    assert placements(driver.run) == []
    driver.assert_stored_truly()


def test_a_plan_is_adopted_told_and_then_done_as_if_it_had_been_given() -> None:
    driver = with_goal()
    events = driver.end(driver.bind())
    assert kinds(events) == [
        "AttemptStarted",
        "ResultRecorded",
        "AttemptEnded",
        "UsageSettled",
        "PlanProposed",
        "PlanAdopted",
        "TaskStatusChanged",
        "TaskStatusChanged",
        "TaskBlocked",
        "ProgressUpdate",
    ]
    assert (driver.waiting("a"), driver.waiting("b")) == (WaitingFor.BASE, WaitingFor.DEPENDENCIES)
    assert driver.run_state() is RunState.PLANNING
    assert [p.kind for p in placements(driver.run)] == [AttemptKind.VERIFY]
    driver.assert_stored_truly()
    driver.play()
    assert (driver.run_state(), driver.states()) == (RunState.COMPLETED, {"a": "completed", "b": "completed"})
    driver.assert_stored_truly()


def test_a_plan_that_comes_twice_is_adopted_once() -> None:
    driver = with_goal()
    attempt = driver.bind()
    driver.end(attempt)
    ended = h.Ended(attempt, Outcome.SUCCEEDED, "", driver.tick())
    assert driver.tell(driver.planned(ended)) == []


@pytest.mark.parametrize("outcome", [Outcome.VERIFICATION_FAILED, Outcome.STUCK, Outcome.TIMED_OUT])
def test_planning_that_failed_is_tried_again_as_a_task_is_and_told_why(outcome: Outcome) -> None:
    driver = with_goal(limits=RunLimits(retries=1))
    driver.end(driver.bind(), outcome)
    (again,) = placements(driver.run)
    assert (again.attempt_id, again.number) == ("r.plan-2", 2)
    assert again.previous
    assert again.previous.outcome is outcome
    driver.assert_stored_truly()
    driver.end(driver.bind(), outcome)
    assert (driver.run_state(), driver.failed()) == (RunState.FAILED, RunFailureReason.PLANNING_FAILED)
    failure = driver.run.core.failure
    assert failure
    assert "give a plan" in failure.message


def test_a_run_whose_planning_failed_says_why_and_not_what_the_model_was_told() -> None:
    driver = with_goal(limits=RunLimits(retries=0))
    ended = h.Ended(
        driver.bind(),
        Outcome.VERIFICATION_FAILED,
        "the plan cannot run: a\nPropose it again: a",
        driver.tick(),
    )
    driver.tell(replace(ended, result=b"\x12\x00"))
    failure = driver.run.core.failure
    assert failure
    assert failure.message == (
        "no plan could be made of the goal (VERIFICATION_FAILED): the plan cannot run: a; "
        "say more of what is wanted, or give a plan"
    )


def test_planning_waits_for_the_instant_of_its_next_attempt() -> None:
    driver = with_goal()
    driver.end(driver.bind(), Outcome.LOST)
    assert placements(driver.run) == []
    due = driver.run.core.planning
    assert due
    assert driver.wanted(WakeAt) == [WakeAt(due.retry_time)]  # type: ignore[arg-type]
    driver.assert_stored_truly()
    driver.tell(h.ClockRead(driver.tick(1)))
    assert [p.attempt_id for p in placements(driver.run)] == ["r.plan-2"]
    driver.assert_stored_truly()


@pytest.mark.parametrize("outcome", [Outcome.PROVIDER_REJECTED, Outcome.REFUSED, Outcome.LIMIT_EXCEEDED])
def test_an_outcome_that_no_repeat_mends_ends_the_run(outcome: Outcome) -> None:
    driver = with_goal()
    driver.end(driver.bind(), outcome)
    assert (driver.run_state(), driver.failed()) == (RunState.FAILED, RunFailureReason.PLANNING_FAILED)
    assert placements(driver.run) == []
    driver.assert_stored_truly()


def test_a_worker_that_did_not_start_it_leaves_it_to_another() -> None:
    driver = with_goal()
    attempt = driver.bind()
    driver.tell(h.NotStarted(attempt, "NO_FREE_SLOT", driver.tick()))
    assert [p.attempt_id for p in placements(driver.run)] == ["r.plan-1"]
    driver.assert_stored_truly()


def test_a_cancel_in_the_middle_of_planning_ends_it_and_its_plan_comes_too_late() -> None:
    driver = with_goal()
    attempt = driver.bind()
    driver.tell(h.EndAsked(Ending(RunState.CANCELLED), driver.tick()))
    assert driver.wanted(CancelAttempt) == [CancelAttempt(attempt)]
    driver.end(attempt)
    assert (driver.run_state(), driver.run.tasks) == (RunState.CANCELLED, {})
    assert "PlanProposed" not in kinds(driver.events)
    driver.assert_stored_truly()


def test_the_runs_time_covers_planning() -> None:
    driver = with_goal(limits=RunLimits(run_timeout=timedelta(minutes=1)))
    attempt = driver.bind()
    driver.tell(h.ClockRead(driver.tick(61)))
    assert driver.run_state() is RunState.CANCELLING
    driver.end(attempt, Outcome.CANCELLED)
    assert (driver.run_state(), driver.failed()) == (RunState.FAILED, RunFailureReason.RUN_TIMEOUT)


def unserved(driver: Driver) -> list[tuple[str, ...]]:
    return [event.unserved for event in driver.events if isinstance(event, e.RunStatusChanged)]


def test_that_no_worker_plans_is_said_at_once_and_waited_for() -> None:
    driver = Driver(task("a"), goal="make it so")
    driver.tell(h.RolesServed(frozenset({"backend"}), driver.tick()))
    assert driver.run.core.unserved == ("planner",)
    assert unserved(driver) == [(), ("planner",)]
    driver.assert_stored_truly()
    driver.serve()
    assert unserved(driver)[-1] == ()
    driver.play()
    assert driver.run_state() is RunState.COMPLETED


@pytest.mark.parametrize("planner", [True, False])
def test_that_no_worker_plans_or_does_the_plan_fails_the_run_where_asked(planner: bool) -> None:
    driver = Driver(task("a", role="docs"), goal="make it so", fail_unserved=True)
    driver.tell(h.RolesServed(frozenset({"planner"} if planner else {"backend"}), driver.tick()))
    if planner:
        ended = h.Ended(driver.bind(), Outcome.SUCCEEDED, "", driver.tick())
        driver.tell(driver.planned(ended, frozenset({"planner", "backend"})))
    assert (driver.run_state(), driver.failed()) == (RunState.FAILED, RunFailureReason.NO_WORKER)
    assert unserved(driver)[1:3] == [(("docs",) if planner else ("planner",)), ()]
    driver.assert_stored_truly()
