"""Tasks that wait for the model's provider, as the machine tells it."""

from datetime import datetime, timedelta

from services.lead.machine import events as e
from services.lead.machine import happenings as h
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import Hold, RunLimits
from services.lead.machine.task import TaskState, WaitingFor
from services.lead.machine.wanted import placements
from tests.unit.lead.machine_driver import START, Driver, task


def told(events: list[e.Event]) -> dict[str, tuple[WaitingFor | None, datetime | None]]:
    """What the last word on each task is."""
    changes = [event for event in events if isinstance(event, e.TaskStatusChanged)]
    return {each.task_id: (each.waiting_for, each.retry_time) for each in changes}


def hold(driver: Driver, *holds: Hold) -> dict[str, tuple[WaitingFor | None, datetime | None]]:
    return told(driver.tell(h.ProvidersHeld(holds, driver.tick())))


def running(*tasks: str, concurrency: int = 2) -> Driver:
    driver = Driver(*(task(id) for id in tasks), limits=RunLimits(concurrency=concurrency))
    driver.verify_base()
    return driver


UNTIL = START + timedelta(minutes=5)
HELD = Hold("backend", "", UNTIL)


def test_tasks_whose_turn_it_is_say_that_they_wait_for_the_provider_and_until_when() -> None:
    driver = running("a", "b", "c")
    assert hold(driver, HELD) == dict.fromkeys("ab", (WaitingFor.PROVIDER, UNTIL))
    assert hold(driver, HELD) == {}
    assert driver.waiting("c") is WaitingFor.SLOT
    assert hold(driver) == dict.fromkeys("ab", (WaitingFor.SLOT, None))
    driver.assert_stored_truly()


def test_a_pause_that_is_put_off_is_told_again_and_that_of_others_is_not() -> None:
    driver = running("a")
    hold(driver, HELD)
    later = Hold("backend", "", UNTIL + timedelta(minutes=1))
    assert hold(driver, later) == {"a": (WaitingFor.PROVIDER, later.until)}
    assert hold(driver, Hold("backend", "claude-opus-5", UNTIL)) == {"a": (WaitingFor.SLOT, None)}


def test_a_probe_has_no_expected_end() -> None:
    driver = running("a")
    assert hold(driver, Hold("backend", "", None)) == {"a": (WaitingFor.PROVIDER, None)}


def test_it_is_still_wanted_so_that_it_is_placed_as_the_pause_ends() -> None:
    driver = running("a")
    hold(driver, HELD)
    (placement,) = placements(driver.run)
    assert (placement.task_id, placement.model) == ("a", "")
    driver.bind(placement)
    assert driver.run.tasks["a"].state is TaskState.ASSIGNED


def test_a_task_that_comes_to_its_turn_meanwhile_says_so_too() -> None:
    driver = running("a", "b", concurrency=1)
    attempt = driver.bind()
    hold(driver, HELD)
    assert driver.waiting("b") is WaitingFor.SLOT
    events = driver.end(attempt, Outcome.VERIFICATION_FAILED)
    assert told(events)["a"] == (WaitingFor.PROVIDER, UNTIL)


def test_before_the_base_is_verified_nobody_waits_for_a_provider() -> None:
    driver = Driver(task("a"))
    driver.serve()
    assert hold(driver, HELD) == {}
    assert driver.waiting("a") is WaitingFor.BASE
    driver.end(driver.bind())
    assert driver.waiting("a") is WaitingFor.PROVIDER


def test_an_attempt_that_gave_the_provider_up_goes_on_from_its_own_commit_and_costs_nothing() -> None:
    driver = running("a")
    for number in range(1, 30):
        attempt = driver.bind()
        commit = driver.new_commit()
        driver.end(attempt, Outcome.PROVIDER_UNAVAILABLE, commit=commit)
        assert driver.waiting("a") is WaitingFor.RETRY_TIME
        driver.tell(h.ClockRead(driver.tick(61)))
        (placement,) = placements(driver.run)
        assert (placement.number, placement.start) == (number + 1, commit)
    assert driver.run.tasks["a"].retries == 0
