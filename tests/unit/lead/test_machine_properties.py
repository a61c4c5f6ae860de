"""Whatever happens, in whatever order: every task ends in exactly one final state, and what is
stored says the same as what was decided."""

from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codeframe.plan import PlannedTask
from services.lead.machine import happenings as h
from services.lead.machine.attempt import AttemptKind
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import Ending, Hold, RunLimits, RunState
from services.lead.machine.wanted import CancelAttempt, PushHead, StackCandidate, commands, placements
from tests.unit.lead.machine_driver import START, Driver, task

WORKERS_OUTCOMES = [o for o in Outcome if o not in (Outcome.CONFLICT, Outcome.INTEGRATION_FAILED)]


@st.composite
def plans(draw: st.DrawFn) -> list[PlannedTask]:
    count = draw(st.integers(1, 7))
    return [
        task(
            str(index),
            *(str(on) for on in range(index) if draw(st.integers(0, 3)) == 0),
            priority=draw(st.integers(0, 4)),
            verification=draw(st.sampled_from(["", "", "none"])),
        )
        for index in range(count)
    ]


def step(driver: Driver, data: st.DataObject) -> None:
    """One thing that may happen now."""
    run = driver.run
    choices = ["clock", "serve", "hold"]
    choices += ["bind"] * 3 if placements(run) else []
    choices += ["end"] * 3 + ["refuse"] if run.open_attempts else []
    choices += ["stack"] * 2 if driver.wanted(StackCandidate) else []
    choices += ["push"] * 2 if driver.wanted(PushHead) else []
    match data.draw(st.sampled_from(choices)):
        case "clock":
            driver.tell(h.ClockRead(driver.tick(data.draw(st.sampled_from([0.1, 5, 100])))))
        case "serve":
            roles = data.draw(st.frozensets(st.sampled_from(["backend", "planner"])))
            driver.tell(h.RolesServed(roles, driver.tick()))
        case "hold":
            until = data.draw(st.sampled_from([None, START + timedelta(minutes=1)]))
            holds = (Hold("backend", "", until),) if data.draw(st.booleans()) else ()
            driver.tell(h.ProvidersHeld(holds, driver.tick()))
        case "bind":
            driver.bind(data.draw(st.sampled_from(placements(run))))
        case "refuse":
            attempt = data.draw(st.sampled_from(run.open_attempts))
            driver.tell(h.NotStarted(attempt.id, "no free slot", driver.tick()))
        case "end":
            attempt = data.draw(st.sampled_from(run.open_attempts))
            good = data.draw(st.integers(0, 2)) > 0
            outcome = Outcome.SUCCEEDED if good else data.draw(st.sampled_from(WORKERS_OUTCOMES))
            if CancelAttempt(attempt.id) in commands(run):
                outcome = Outcome.CANCELLED
            driver.end(attempt.id, outcome)
        case "stack":
            queued = [each.id for each in run.merging]
            conflicts = data.draw(st.sets(st.sampled_from(queued))) if data.draw(st.booleans()) else set()
            (wanted,) = driver.wanted(StackCandidate)
            assert isinstance(wanted, StackCandidate)
            offered = {task_id for task_id, _ in wanted.commits}
            driver.stack(conflicts=dict.fromkeys(conflicts & offered, "conflict"))
        case "push":
            driver.push(moved=data.draw(st.integers(0, 9)) > 0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans(), checks=st.integers(1, 2), goal=st.sampled_from(["", "all of it"]), data=st.data())
def test_a_run_always_ends_and_is_stored_truly(
    plan: list[PlannedTask], checks: int, goal: str, data: st.DataObject
) -> None:
    driver = Driver(*plan, limits=RunLimits(concurrency=2, retries=1), checks=checks, goal=goal)
    for _ in range(data.draw(st.integers(0, 60))):
        if driver.run.core.state.final:
            break
        step(driver, data)
    driver.assert_stored_truly()
    if data.draw(st.booleans()):
        driver.tell(h.EndAsked(Ending(RunState.CANCELLED), driver.tick()))
    if not driver.run.core.state.final:
        driver.serve()
        if driver.wanted(PushHead):
            driver.push()
        driver.play()
    assert all(each.state.final for each in driver.run.tasks.values())
    assert not driver.run.open_attempts
    assert not commands(driver.run)
    assert not placements(driver.run)
    driver.assert_stored_truly()
    bound = [attempt for attempt in driver.run.attempts.values() if attempt.kind is AttemptKind.TASK]
    assert len({attempt.id for attempt in bound}) == len(bound)
