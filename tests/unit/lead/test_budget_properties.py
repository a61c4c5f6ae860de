"""Whatever happens, in whatever order: a budget is passed by at most the call in flight of each attempt
that runs, and what is charged covers what was spent."""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codeframe.budget import NOTHING, Budget, Charge
from services.lead.machine import happenings as h
from services.lead.machine.allowance import charged
from services.lead.machine.attempt import AttemptKind
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import RunLimits
from services.lead.machine.usage import Usage, charge_of
from services.lead.machine.wanted import CancelAttempt, commands, placements
from tests.unit.lead.machine_driver import TURN, Driver, task

TOLD = [Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.VERIFICATION_FAILED, Outcome.INTERRUPTED]


LONG = 30
"""Turns of which the largest budget here is made."""


@dataclass
class Work:
    """An attempt at its worker: what it spent, and what nobody has read of that."""

    id: str
    allowance: Budget
    spent: Charge = NOTHING
    unread: Charge = NOTHING
    alive: bool = True

    @property
    def usage(self) -> tuple[Usage, ...]:
        spent = self.spent
        return (Usage("m", spent.turns, input_tokens=spent.tokens, cost_micros=spent.cost_micros),)


@dataclass
class Payday:
    """A run, its workers, and what they paid."""

    driver: Driver
    budget: Budget
    works: dict[str, Work] = field(default_factory=dict)
    running_at_last_bind: int = 0

    def spent(self) -> Charge:
        return sum((work.spent for work in self.works.values()), NOTHING)

    def alive(self) -> list[Work]:
        return [work for work in self.works.values() if work.alive]

    def bind(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(placements(self.driver.run)))
        attempt_id = self.driver.bind(wanted)
        if wanted.kind is not AttemptKind.TASK:
            self.driver.end(attempt_id)
            return
        self.works[attempt_id] = Work(attempt_id, wanted.allowance)
        self.running_at_last_bind = len(self.alive())

    def turn(self, work: Work, tokens: int, cost: int, *, is_read: bool) -> None:
        """A worker asks before each call whether it may: the call itself may pass the allowance."""
        if work.allowance.is_spent_by(work.spent):
            return
        work.spent += Charge(tokens, cost, turns=1)
        if is_read and self.driver.run.attempts[work.id].open and work.unread == NOTHING:
            self.driver.spend(work.id, tokens, cost)
        else:
            work.unread += Charge(tokens, cost, turns=1)

    def spend_all(self) -> None:
        """The worst that can happen: every worker that lives spends all it may, in the largest calls."""
        for work in self.alive():
            for _ in range(LONG):
                self.turn(work, TURN.tokens, TURN.cost_micros, is_read=False)

    def end(self, work: Work, data: st.DataObject) -> None:
        """A worker that lives hands in its result; one that is asked, its late one."""
        attempt, work.alive = self.driver.run.attempts[work.id], False
        if not attempt.open:
            if attempt.asked_until:
                self.driver.tell(h.Answered(work.id, self.driver.tick(), work.usage))
            return
        is_spent = work.allowance.is_spent_by(work.spent)
        outcome = Outcome.ALLOWANCE_SPENT if is_spent else data.draw(st.sampled_from(TOLD))
        if CancelAttempt(work.id) in commands(self.driver.run):
            outcome = Outcome.CANCELLED
        commit = "" if outcome is Outcome.SUCCEEDED else self.driver.new_commit()
        self.driver.end(work.id, outcome, commit, usage=work.usage)

    def lose(self, work: Work, data: st.DataObject) -> None:
        """A worker falls silent, or is found dead, with one unread turn at most."""
        attempt = self.driver.run.attempts[work.id]
        is_dead = work.unread.turns <= 1 and data.draw(st.booleans())
        work.alive = not is_dead
        if attempt.open:
            self.driver.end(work.id, Outcome.LOST, is_dead=is_dead)
        elif attempt.asked_until and is_dead:
            self.driver.tell(h.Answered(work.id, self.driver.tick(), is_dead=True))

    def hold_true(self) -> None:
        running = self.running_at_last_bind
        passed = Charge(running * TURN.tokens, running * TURN.cost_micros, running)
        spent = self.spent()
        bound = self.budget.rest(NOTHING - passed)
        assert not bound.is_below(spent), f"{spent} of {self.budget}, {self.running_at_last_bind} running"


def budgets() -> st.SearchStrategy[Budget]:
    return st.builds(
        Budget,
        tokens=st.none() | st.integers(1, LONG * TURN.tokens),
        cost_micros=st.none() | st.integers(1, LONG * TURN.cost_micros),
        turns=st.none() | st.integers(1, LONG),
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(budget=budgets(), of_task=budgets(), tasks=st.integers(1, 4), data=st.data())
def test_a_budget_is_passed_by_the_calls_in_flight_at_most(
    budget: Budget, of_task: Budget, tasks: int, data: st.DataObject
) -> None:
    plan = [task(str(number), budget=of_task if number == 0 else Budget()) for number in range(tasks)]
    driver = Driver(*plan, limits=RunLimits(concurrency=3, retries=2), budget=budget)
    driver.verify_base()
    payday = Payday(driver, budget)
    for _ in range(data.draw(st.integers(5, 80))):
        if driver.run.core.state.final:
            break
        alive = payday.alive()
        choices = ["clock"] * 2
        choices += ["bind"] * 3 if placements(driver.run) else []
        choices += ["turn"] * 3 + ["end", "lose", "lose"] if alive else []
        match data.draw(st.sampled_from(choices)):
            case "clock":
                driver.merge()
                driver.tell(h.ClockRead(driver.tick(data.draw(st.sampled_from([1, 60, 700])))))
            case "bind":
                payday.bind(data)
            case "turn":
                work = data.draw(st.sampled_from(alive))
                tokens, cost = (
                    data.draw(st.integers(1, TURN.tokens)),
                    data.draw(st.integers(1, TURN.cost_micros)),
                )
                payday.turn(work, tokens, cost, is_read=data.draw(st.booleans()))
            case "end":
                payday.end(data.draw(st.sampled_from(alive)), data)
            case "lose":
                payday.lose(data.draw(st.sampled_from(alive)), data)
        payday.hold_true()
    driver.assert_stored_truly()
    payday.spend_all()
    payday.hold_true()
    for work in payday.alive():
        payday.end(work, data)
    driver.assert_stored_truly()
    run = driver.run
    for attempt in run.attempts.values():
        if attempt.settled and attempt.id in payday.works:
            took = payday.works[attempt.id].spent
            assert charge_of(attempt.usage) == Charge(took.tokens, took.cost_micros, took.turns)
    paid = [attempt for attempt in run.attempts.values() if attempt.task_id and not attempt.unbound]
    if all(attempt.settled for attempt in paid):
        assert charge_of(run.core.usage) == payday.spent()
        assert run.core.estimated == NOTHING
        assert charged(run).tokens == payday.spent().tokens
