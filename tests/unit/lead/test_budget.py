"""Budgets: what is reserved, what is settled, and when a run stops paying."""

from dataclasses import replace
from datetime import timedelta

import pytest

from codeframe.budget import NOTHING, Budget, Charge, dollars
from services.lead.machine import happenings as h
from services.lead.machine import private_records as r
from services.lead.machine.allowance import ASKED_FOR, charged, reserved
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import RunFailureReason, RunLimits, RunState
from services.lead.machine.task import TaskState, WaitingFor
from services.lead.machine.usage import Usage
from services.lead.machine.wanted import AskLost, placements
from tests.unit.lead.machine_driver import TURN, Driver, task

TASKS = [task(name) for name in "abc"]


def running(*tasks: object, budget: Budget, concurrency: int = 5) -> Driver:
    driver = Driver(*tasks, budget=budget, limits=RunLimits(concurrency=concurrency))  # type: ignore[arg-type]
    driver.verify_base()
    return driver


def allowances(driver: Driver) -> dict[str, Budget]:
    return {placement.task_id: placement.allowance for placement in placements(driver.run)}


def test_without_a_budget_an_attempt_may_spend_what_it_takes() -> None:
    driver = Driver(*TASKS)
    driver.verify_base()
    assert set(allowances(driver).values()) == {Budget()}
    driver.play()
    assert driver.run_state() is RunState.COMPLETED


def test_the_rest_is_divided_by_the_slots_that_tasks_can_take() -> None:
    assert allowances(running(*TASKS, budget=Budget(tokens=1000), concurrency=2)) == {
        "a": Budget(tokens=500),
        "b": Budget(tokens=500),
    }
    assert allowances(running(task("a"), budget=Budget(tokens=1000))) == {"a": Budget(tokens=1000)}


def test_a_share_is_a_turns_maximum_at_least_and_who_finds_none_waits() -> None:
    driver = running(*TASKS, budget=Budget(tokens=250))
    assert allowances(driver) == {"a": Budget(tokens=100), "b": Budget(tokens=100)}
    first, _ = driver.bind(), driver.bind()
    assert driver.waiting("c") is WaitingFor.BUDGET
    assert placements(driver.run) == []
    driver.end(first)
    assert driver.waiting("c") is WaitingFor.SLOT
    assert allowances(driver) == {"c": Budget(tokens=150)}
    driver.assert_stored_truly()


def test_the_last_of_a_budget_goes_to_one_attempt_however_little() -> None:
    driver = running(*TASKS, budget=Budget(tokens=30))
    assert allowances(driver) == {"a": Budget(tokens=30)}


def test_a_task_gets_no_more_than_its_own_budget() -> None:
    few = Budget(turns=3)
    driver = running(task("a", budget=few), task("b"), budget=Budget(tokens=1000))
    assert allowances(driver) == {"a": Budget(tokens=500, turns=3), "b": Budget(tokens=500)}


def test_what_a_result_tells_takes_the_place_of_what_notices_told() -> None:
    driver = running(task("a"), budget=Budget(tokens=1000))
    attempt = driver.bind()
    driver.spend(attempt, 40)
    assert (charged(driver.run).tokens, reserved(driver.run).tokens) == (40, 960)
    cut_off = Usage("m", 2, input_tokens=70, incomplete=True)
    driver.end(attempt, Outcome.TIMED_OUT, usage=(cut_off,), wall_time=timedelta(seconds=5))
    assert charged(driver.run) == Charge(70, 0, 2, timedelta(seconds=5))
    assert reserved(driver.run) == NOTHING
    assert driver.run.core.usage == (cut_off,)
    driver.assert_stored_truly()


def test_a_spent_allowance_goes_on_from_its_own_commit_and_costs_nothing() -> None:
    driver = running(task("a"), task("b"), budget=Budget(tokens=300))
    first = driver.bind()
    driver.spend(first, 160)
    driver.end(first, Outcome.ALLOWANCE_SPENT, "c" * 40)
    again = next(each for each in placements(driver.run) if each.task_id == "a")
    assert (again.start, again.number) == ("c" * 40, 2)
    assert driver.run.tasks["a"].retries == 0


def test_an_allowance_that_is_not_spent_is_a_fault_of_the_worker() -> None:
    driver = running(task("a"), budget=Budget(tokens=300))
    for _ in range(4):
        driver.end(driver.bind(), Outcome.ALLOWANCE_SPENT)
        driver.tell(h.ClockRead(driver.tick(60)))
    assert driver.states() == {"a": "failed"}
    assert driver.run.tasks["a"].reason is Outcome.INTERNAL


def test_where_all_is_spent_the_run_fails_and_says_where_the_work_is() -> None:
    driver = running(task("a"), task("b", "a"), budget=Budget(tokens=100, cost_micros=250_000))
    attempt = driver.bind()
    driver.spend(attempt, 120, 90_000)
    driver.end(attempt, Outcome.ALLOWANCE_SPENT, "c" * 40)
    assert driver.run_state() is RunState.FAILED
    assert driver.states() == {"a": "cancelled", "b": "cancelled"}
    failure = driver.run.core.failure
    assert failure
    assert failure.reason is RunFailureReason.BUDGET_EXHAUSTED
    assert "120 of 100 tokens, $0.09 of $0.25" in failure.message
    assert "a (cccccccccccc)" in failure.message
    driver.assert_stored_truly()


def test_what_is_in_the_merge_queue_is_merged_before_the_run_ends() -> None:
    driver = running(task("a"), task("b"), budget=Budget(tokens=200))
    done, other = driver.bind(), driver.bind()
    driver.spend(done, 100)
    driver.end(done)
    driver.spend(other, 100)
    driver.end(other, Outcome.ALLOWANCE_SPENT, "c" * 40)
    assert driver.run_state() is RunState.RUNNING
    assert driver.waiting("b") is WaitingFor.BUDGET
    driver.merge()
    assert driver.states() == {"a": "completed", "b": "cancelled"}
    assert driver.failed() is RunFailureReason.BUDGET_EXHAUSTED


def test_a_run_whose_last_attempt_spent_all_completes() -> None:
    driver = running(task("a"), budget=Budget(tokens=100))
    attempt = driver.bind()
    driver.spend(attempt, 130)
    driver.end(attempt)
    driver.merge()
    assert driver.run_state() is RunState.COMPLETED


def test_a_task_whose_own_budget_is_spent_fails_and_the_others_go_on() -> None:
    driver = running(task("a", budget=Budget(turns=1)), task("b"), task("c", "a"), budget=Budget())
    attempt = driver.bind()
    driver.spend(attempt, 10)
    driver.end(attempt, Outcome.VERIFICATION_FAILED, "c" * 40)
    assert driver.states() == {"a": "failed", "b": "pending", "c": "skipped"}
    assert driver.run.tasks["a"].reason is Outcome.ALLOWANCE_SPENT
    assert "1 of 1 turns" in driver.run.tasks["a"].message
    driver.play()
    assert driver.states()["b"] == "completed"
    driver.assert_stored_truly()


def test_wall_time_is_a_budget_of_attempts() -> None:
    minutes = timedelta(minutes=1)
    driver = running(task("a"), budget=Budget(wall_time=3 * minutes))
    attempt = driver.bind()
    driver.end(attempt, Outcome.ALLOWANCE_SPENT, "c" * 40, wall_time=3 * minutes)
    assert driver.failed() is RunFailureReason.BUDGET_EXHAUSTED


def test_a_dead_workers_attempt_is_charged_a_turn_more_than_it_told() -> None:
    driver = running(task("a"), budget=Budget(tokens=1000))
    attempt = driver.bind()
    driver.spend(attempt, 40)
    driver.end(attempt, Outcome.LOST, is_dead=True)
    stored = driver.run.attempts[attempt]
    assert (stored.estimate.tokens, stored.asked_until) == (TURN.tokens, None)
    assert charged(driver.run).tokens == 40 + TURN.tokens
    assert driver.run.core.estimated == stored.estimate
    assert not driver.wanted(AskLost)


def test_a_silent_workers_attempt_keeps_its_allowance_charged_until_it_answers() -> None:
    driver = running(task("a"), task("b"), budget=Budget(tokens=300))
    attempt = driver.bind()
    driver.spend(attempt, 40)
    driver.end(attempt, Outcome.LOST)
    assert charged(driver.run).tokens == 150
    assert driver.wanted(AskLost) == [AskLost(attempt)]
    settled = (Usage("m", 3, input_tokens=90),)
    driver.tell(h.Answered(attempt, driver.tick(), settled, timedelta(seconds=9)))
    assert charged(driver.run) == Charge(90, 0, 3, timedelta(seconds=9))
    assert driver.run.core.estimated == NOTHING
    assert not driver.wanted(AskLost)
    driver.assert_stored_truly()


def test_a_lost_attempt_that_died_after_all_is_charged_a_turn_and_one_never_heard_of_nothing() -> None:
    for known, dead, tokens in ((True, True, 40 + TURN.tokens), (False, False, 40)):
        driver = running(task("a"), budget=Budget(tokens=1000))
        attempt = driver.bind()
        driver.spend(attempt, 40)
        driver.end(attempt, Outcome.LOST)
        assert charged(driver.run).tokens == 1000
        driver.tell(h.Answered(attempt, driver.tick(), is_dead=dead, is_known=known))
        assert charged(driver.run).tokens == tokens


def test_a_run_waits_for_lost_attempts_to_answer_and_no_longer_than_the_grace() -> None:
    driver = running(task("a"), budget=Budget(tokens=300))
    attempt = driver.bind()
    driver.end(attempt, Outcome.LOST)
    driver.tell(h.ClockRead(driver.tick(5)))
    assert driver.waiting("a") is WaitingFor.BUDGET
    driver.tell(h.ClockRead(driver.tick(ASKED_FOR.total_seconds())))
    assert driver.failed() is RunFailureReason.BUDGET_EXHAUSTED
    assert driver.run.core.estimated.tokens == 300
    driver.assert_stored_truly()


def test_calls_of_unknown_cost_are_charged_all_the_dollars_that_were_reserved() -> None:
    driver = running(task("a"), task("b"), budget=Budget(cost_micros=10_000))
    attempt = driver.bind()
    driver.spend(attempt, 40, cost_known=False)
    driver.end(attempt, Outcome.LIMIT_EXCEEDED)
    assert charged(driver.run).cost_micros == 5_000
    assert driver.run.core.estimated.cost_micros == 5_000


def test_an_attempt_that_was_refused_gives_its_allowance_back() -> None:
    driver = running(task("a"), task("b"), budget=Budget(tokens=300))
    attempt = driver.bind()
    driver.tell(h.NotStarted(attempt, "no free slot", driver.tick()))
    assert reserved(driver.run) == NOTHING
    assert allowances(driver)["a"] == Budget(tokens=150)


def test_a_late_answer_says_nothing_twice() -> None:
    driver = running(task("a"), budget=Budget(tokens=300))
    attempt = driver.bind()
    driver.end(attempt, Outcome.LOST)
    answer = h.Answered(attempt, driver.tick(), (Usage("m", 1, input_tokens=10),))
    assert any(isinstance(event, r.UsageSettled) for event in driver.tell(answer))
    assert driver.tell(replace(answer, time=driver.tick())) == []
    assert driver.run.attempts[attempt].outcome is Outcome.LOST
    assert driver.run.tasks["a"].state is TaskState.PENDING


@pytest.mark.parametrize(
    ("micros", "told"),
    [(5_000_000, "$5.00"), (1_234_567_890, "$1,234.57"), (250_000, "$0.25"), (123, "$0.000123")],
)
def test_dollars_are_told_as_exactly_as_they_matter(micros: int, told: str) -> None:
    assert dollars(micros) == told


def test_planning_has_all_that_is_left_and_ends_the_run_where_it_spends_it() -> None:
    driver = Driver(task("a"), goal="a goal", budget=Budget(tokens=500))
    driver.serve()
    (wanted,) = placements(driver.run)
    assert wanted.allowance == Budget(tokens=500)
    attempt = driver.bind(wanted)
    driver.spend(attempt, 300)
    driver.spend(attempt, 260)
    driver.end(attempt, Outcome.ALLOWANCE_SPENT)
    assert driver.failed() is RunFailureReason.BUDGET_EXHAUSTED
    driver.assert_stored_truly()
