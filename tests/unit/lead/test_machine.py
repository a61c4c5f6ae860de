"""What happens next, one situation at a time."""

from datetime import timedelta

import pytest

from services.lead.machine import events as e
from services.lead.machine import happenings as h
from services.lead.machine import private_records as r
from services.lead.machine.attempt import AttemptKind
from services.lead.machine.outcome import RULES, Outcome
from services.lead.machine.state import Ending, RunFailureReason, RunLimits, RunState
from services.lead.machine.task import TaskState, WaitingFor
from services.lead.machine.wanted import CancelAttempt, PushHead, StackCandidate, placements
from tests.unit.lead.machine_driver import BASE, START, Driver, task


def kinds(events: list[e.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_the_base_is_verified_before_the_first_task_starts() -> None:
    driver = Driver(task("a"), task("b"), checks=2)
    driver.serve()
    assert [p.kind for p in placements(driver.run)] == [AttemptKind.VERIFY] * 2
    assert driver.waiting("a") is WaitingFor.BASE
    driver.verify_base()
    assert driver.run_state() is RunState.RUNNING
    assert [p.task_id for p in placements(driver.run)] == ["a", "b"]


def test_a_run_completes_and_its_head_moves_once_for_each_merge() -> None:
    driver = Driver(task("a"), task("b", "a"))
    driver.verify_base()
    driver.play()
    assert driver.run_state() is RunState.COMPLETED
    assert driver.states() == {"a": "completed", "b": "completed"}
    assert driver.run.core.head != BASE
    driver.assert_stored_truly()


def test_a_task_may_be_called_as_other_attempts_are() -> None:
    driver = Driver(task("verify"), task("plan", "verify"))
    driver.verify_base()
    driver.play()
    assert driver.states() == {"verify": "completed", "plan": "completed"}
    tasks = [each for each in driver.run.attempts.values() if each.kind is AttemptKind.TASK]
    assert (len(tasks), len(driver.run.attempts)) == (2, 2 + driver.run.core.verifications)
    driver.assert_stored_truly()


def test_an_unverified_task_passes_what_passed_at_the_base_and_is_never_green() -> None:
    driver = Driver(task("docs", verification="none"), task("code"))
    driver.verify_base()
    wanted = placements(driver.run)[0]
    assert (wanted.task_id, wanted.check) == ("docs", None)
    told = driver.end(driver.bind(wanted))
    ended = next(event for event in told if isinstance(event, e.AttemptEnded))
    assert ended.unverified
    assert not driver.run.core.green, "its own tree was verified by nothing"
    driver.stack()
    (verification,) = [p for p in placements(driver.run) if p.kind is AttemptKind.VERIFY]
    assert verification.check == 0, "the head must not be redder than the base"
    driver.end(driver.bind(verification))
    told = driver.push()
    assert e.TaskStatusChanged("docs", TaskState.COMPLETED, progress=100, unverified=True) in told
    assert e.ProgressUpdate(1, 0, 2, unverified=1) in told
    driver.assert_stored_truly()


def test_an_unverified_task_that_reddens_the_head_is_done_again() -> None:
    driver = Driver(task("docs", verification="none"), task("code"))
    driver.verify_base()
    driver.end(driver.bind())
    driver.stack()
    for _ in range(2):
        (verification,) = [p for p in placements(driver.run) if p.kind is AttemptKind.VERIFY]
        driver.end(driver.bind(verification), Outcome.VERIFICATION_FAILED)
    assert driver.run.core.head == BASE
    assert driver.run.tasks["docs"].previous is not None
    assert driver.run.tasks["docs"].previous.outcome is Outcome.INTEGRATION_FAILED


def test_a_run_that_nothing_verifies_starts_at_once_and_counts_it() -> None:
    driver = Driver(task("a", verification="none"), task("b", "a", verification="none"), checks=0)
    assert driver.run_state() is RunState.PLANNING
    driver.serve()
    assert driver.run_state() is RunState.RUNNING
    assert [p.kind for p in placements(driver.run)] == [AttemptKind.TASK]
    driver.play()
    assert driver.run_state() is RunState.COMPLETED
    assert (driver.run.unverified, driver.run.core.verifications) == (2, 0)
    driver.assert_stored_truly()


def test_ready_tasks_start_by_priority_then_plan_order_up_to_the_concurrency() -> None:
    tasks = [task("late", priority=4), task("x"), task("y"), task("first", priority=0)]
    driver = Driver(*tasks, limits=RunLimits(concurrency=3))
    driver.verify_base()
    assert [p.task_id for p in placements(driver.run)] == ["first", "x", "y"]


def test_a_dependent_starts_only_after_the_merge() -> None:
    driver = Driver(task("b", "a"), task("a"))
    driver.verify_base()
    driver.end(driver.bind())
    assert driver.run.tasks["a"].merging
    assert placements(driver.run) == []
    driver.stack()
    driver.end(driver.bind())
    told = driver.push()
    assert e.TaskUnblocked("b", ("a",)) in told
    assert [p.task_id for p in placements(driver.run)] == ["b"]
    assert placements(driver.run)[0].base == driver.run.core.head


def test_a_failed_dependency_skips_its_dependents_and_never_releases_them() -> None:
    driver = Driver(task("a"), task("b", "a"), task("c", "b"), task("d"))
    driver.verify_base()
    driver.play(lambda attempt: Outcome.REFUSED if attempt == "r.a.1" else Outcome.SUCCEEDED)
    assert driver.states() == {"a": "failed", "b": "skipped", "c": "skipped", "d": "completed"}
    assert driver.failed() is RunFailureReason.TASKS_FAILED


@pytest.mark.parametrize("outcome", [o for o, rule in RULES.items() if rule.costs_retry])
def test_retries_are_spent_and_bounded(outcome: Outcome) -> None:
    driver = Driver(task("a"))
    driver.verify_base()
    driver.play(lambda attempt: outcome)
    assert driver.run.tasks["a"].state is TaskState.FAILED
    assert (driver.run.tasks["a"].attempts, driver.run.tasks["a"].retries) == (4, 3)
    driver.assert_stored_truly()


@pytest.mark.parametrize(
    ("outcome", "attempts"),
    [
        (Outcome.INTERRUPTED, 11),
        (Outcome.ORPHANED, 11),
        (Outcome.LOST, 4),
        (Outcome.NO_TESTS, 1),
        (Outcome.DEFECT_FOUND, 1),
    ],
)
def test_what_costs_no_retry_is_capped(outcome: Outcome, attempts: int) -> None:
    driver = Driver(task("a"))
    driver.verify_base()
    driver.play(lambda attempt: outcome)
    assert driver.run.tasks["a"].state is TaskState.FAILED
    assert (driver.run.tasks["a"].attempts, driver.run.tasks["a"].retries) == (attempts, 0)


def test_the_next_attempt_is_told_why_and_starts_where_the_table_says() -> None:
    driver = Driver(task("a"))
    driver.verify_base()
    own = driver.new_commit()
    driver.end(driver.bind(), Outcome.INTERRUPTED, commit=own)
    (retrying,) = driver.run.retrying
    assert retrying.waiting_for is WaitingFor.RETRY_TIME
    assert retrying.retry_time
    driver.tell(h.ClockRead(retrying.retry_time))
    placement = placements(driver.run)[0]
    assert (placement.start, placement.base, placement.number) == (own, BASE, 2)
    assert placement.previous
    assert placement.previous.outcome is Outcome.INTERRUPTED
    driver.end(driver.bind(), Outcome.VERIFICATION_FAILED, commit=own)
    assert placements(driver.run)[0].start == ""


def test_a_worker_without_a_free_slot_costs_nothing() -> None:
    driver = Driver(task("a"))
    driver.verify_base()
    attempt = driver.bind()
    told = driver.tell(h.NotStarted(attempt, "no free slot", driver.tick()))
    assert "AttemptStarted" not in kinds(told)
    assert driver.run.tasks["a"].attempts == 0
    assert driver.bind(worker="other") == attempt
    driver.assert_stored_truly()
    driver.play()
    assert driver.run_state() is RunState.COMPLETED


def test_a_conflict_is_done_again_from_the_head_and_costs_no_retry() -> None:
    driver = Driver(task("a"), task("b"))
    driver.verify_base()
    for placement in placements(driver.run):
        driver.end(driver.bind(placement))
    driver.stack(conflicts={"b": "both changed app.py"})
    assert driver.run.tasks["b"].state is TaskState.PENDING
    assert driver.run.tasks["b"].previous
    assert "app.py" in driver.run.tasks["b"].previous.message
    assert driver.run.tasks["b"].retries == 0
    driver.play()
    assert driver.states() == {"a": "completed", "b": "completed"}
    driver.assert_stored_truly()


def red(driver: Driver) -> list[e.Event]:
    (placement,) = [p for p in placements(driver.run) if p.kind is AttemptKind.VERIFY]
    return driver.end(driver.bind(placement), Outcome.VERIFICATION_FAILED)


def test_green_alone_and_red_together_are_merged_singly_and_one_is_done_again() -> None:
    driver = Driver(task("a"), task("b"))
    driver.verify_base()
    for placement in placements(driver.run):
        driver.end(driver.bind(placement))
    driver.stack()
    red(driver)
    assert driver.run.core.candidate, "red once: it is verified again"
    told = red(driver)
    assert [event.task_id for event in told if isinstance(event, r.QueuedAlone)] == ["a", "b"]
    driver.stack()
    assert driver.run.core.candidate is not None
    assert driver.run.core.candidate.tasks == ("a",)
    driver.end(driver.bind())
    driver.push()
    driver.stack()
    red(driver)
    again = driver.run.tasks["b"]
    assert again.previous
    assert again.previous.outcome is Outcome.INTEGRATION_FAILED
    assert (again.state, again.retries, again.alone) == (TaskState.PENDING, 1, False)
    driver.play()
    assert driver.states() == {"a": "completed", "b": "completed"}
    driver.assert_stored_truly()


def test_a_tree_that_passed_once_is_not_verified_again() -> None:
    driver = Driver(task("a"))
    driver.verify_base()
    attempt = driver.bind()
    driver.end(attempt)
    own = driver.run.tasks["a"].own
    assert own
    driver.stack(tree=f"tree-{own.commit}")
    assert driver.wanted(PushHead), "its own attempt verified that very tree"
    driver.push()
    assert driver.run.core.checks[0].report_attempt == attempt


def test_every_distinct_check_of_what_completed_verifies_a_candidate() -> None:
    driver = Driver(task("a"), task("b", "a"), checks=2)
    driver.verify_base()
    driver.end(driver.bind())
    driver.merge()
    driver.end(driver.bind())
    driver.stack()
    assert [p.check for p in placements(driver.run)] == [0, 1]


def test_a_verification_that_says_nothing_is_sent_again_ten_times() -> None:
    driver = Driver(task("a"))
    driver.verify_base()
    driver.end(driver.bind())
    driver.stack()
    for _ in range(10):
        driver.end(driver.bind(), Outcome.LOST)
    assert driver.run_state() is RunState.RUNNING
    driver.end(driver.bind(), Outcome.LOST)
    assert driver.run_state() is RunState.FAILED
    assert driver.failed() is RunFailureReason.INTERNAL


def test_a_cancel_waits_for_attempts_and_cancels_every_other_task() -> None:
    driver = Driver(task("a"), task("b"), task("c", "b"))
    driver.verify_base()
    first, second = (driver.bind(p) for p in placements(driver.run))
    driver.end(first)
    driver.merge()
    driver.tell(h.EndAsked(Ending(RunState.CANCELLED, message="enough"), driver.tick()))
    assert driver.run_state() is RunState.CANCELLING
    assert driver.wanted(CancelAttempt) == [CancelAttempt(second)]
    driver.end(second, Outcome.CANCELLED)
    assert driver.run_state() is RunState.CANCELLED
    assert driver.states() == {"a": "completed", "b": "cancelled", "c": "cancelled"}
    assert not driver.tell(h.ClockRead(driver.tick(10**7)))
    driver.assert_stored_truly()


def test_a_cancel_comes_too_late_for_what_is_integrating() -> None:
    driver = Driver(task("a"), task("b"))
    driver.verify_base()
    driver.end(driver.bind())
    driver.stack()
    driver.end(driver.bind())
    assert driver.run.core.integrating
    driver.tell(h.EndAsked(Ending(RunState.CANCELLED), driver.tick()))
    assert driver.run_state() is RunState.CANCELLING
    assert not driver.wanted(StackCandidate)
    driver.push()
    assert driver.run_state() is RunState.CANCELLED
    assert driver.states() == {"a": "completed", "b": "cancelled"}


def test_the_runs_time_ends_it_as_failed() -> None:
    driver = Driver(task("a"), limits=RunLimits(run_timeout=timedelta(hours=1)))
    driver.verify_base()
    attempt = driver.bind()
    driver.tell(h.ClockRead(START + timedelta(hours=1)))
    assert driver.run_state() is RunState.CANCELLING
    driver.end(attempt, Outcome.CANCELLED)
    assert driver.run_state() is RunState.FAILED
    assert driver.failed() is RunFailureReason.RUN_TIMEOUT
    assert not driver.end(attempt)


def test_a_moved_branch_fails_the_run() -> None:
    driver = Driver(task("a"))
    driver.verify_base()
    driver.end(driver.bind())
    driver.stack()
    driver.end(driver.bind())
    driver.push(moved=False)
    assert driver.failed() is RunFailureReason.RUN_BRANCH_MOVED
    assert driver.states() == {"a": "cancelled"}


def test_a_role_that_nobody_serves_is_said_at_once() -> None:
    driver = Driver(task("a"), task("b", role="docs"))
    driver.verify_base()
    told = driver.tell(h.RolesServed(frozenset({"backend"}), driver.tick()))
    assert told == [], "it was told before"
    assert driver.run.core.unserved == ("docs",)
    assert driver.waiting("b") is WaitingFor.WORKER
    driver.tell(h.RolesServed(frozenset({"backend", "docs"}), driver.tick()))
    assert driver.waiting("b") is WaitingFor.SLOT


def test_what_a_worker_lacks_for_a_role_is_told_as_it_changes() -> None:
    driver = Driver(task("a"), task("b", role="docs"))
    driver.verify_base()
    no_key = {"docs": "writer at docs:1: set ANTHROPIC_API_KEY", "test": "of no interest to this run"}
    told = driver.tell(h.RolesServed(frozenset({"backend"}), driver.tick(), no_key))
    assert [each.unserved_reason for each in told if isinstance(each, e.RunStatusChanged)] == [no_key["docs"]]
    assert driver.run.core.unserved_reason == no_key["docs"]
    driver.assert_stored_truly()
    driver.tell(h.RolesServed(frozenset({"backend", "docs"}), driver.tick()))
    driver.tell(h.RolesServed(frozenset({"backend"}), driver.tick(), no_key))
    assert driver.run.tasks["b"].message == f"no worker serves the role docs: {no_key['docs']}"


def test_a_repeated_happening_decides_nothing() -> None:
    driver = Driver(task("a"))
    driver.verify_base()
    placement = placements(driver.run)[0]
    attempt = driver.bind(placement)
    bound = h.Bound(placement, driver.run.attempts[attempt].binding, b"", driver.tick())
    assert driver.tell(bound) == []
    driver.end(attempt)
    assert driver.end(attempt) == []
    assert driver.tell(h.NotStarted(attempt, "late", driver.tick())) == []


def test_a_lost_attempts_late_result_changes_nothing() -> None:
    driver = Driver(task("a"))
    driver.verify_base()
    attempt = driver.bind()
    driver.end(attempt, Outcome.LOST)
    assert driver.end(attempt, Outcome.SUCCEEDED) == []
    assert driver.run.attempts[attempt].outcome is Outcome.LOST
