"""A budget in dollars needs prices: what CreateRun refuses, and what one turn is taken to need."""

from datetime import UTC, datetime

import pytest

from codeframe.budget import Budget
from codeframe.plan import PlannedTask
from services.lead.machine.private_records import RunCreated
from services.lead.machine.state import RunFacts, RunLimits
from services.lead.pricing import PROMPT, REPLY, priced
from services.runtime.errors import InvalidArgument
from services.runtime.prices import our_prices

DOLLARS = Budget(cost_micros=5_000_000)
SONNET, OPUS = 200_000 * 2.5 + 32_000 * 10, 200_000 * 5 + 32_000 * 20
WORKERS = {"backend": {"claude-sonnet-5", "model-x"}, "frontend": {"model-x"}}


def created(*tasks: PlannedTask, budget: Budget = DOLLARS, goal: str = "") -> RunCreated:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    facts = RunFacts("r", "p", "q", "t", "/repo", "0" * 40, "b", RunLimits(), now, budget=budget, goal=goal)
    return RunCreated(facts, tasks, (), {})


def task(role: str, model: str = "", budget: Budget | None = None) -> PlannedTask:
    return PlannedTask("a", "title", role=role, model=model, budget=budget or Budget())


@pytest.mark.parametrize(
    ("tasks", "micros"),
    [
        ([task("backend", "claude-sonnet-5")], SONNET),
        ([task("backend", "claude-sonnet-5"), task("backend", "claude-opus-5-5")], OPUS),
        ([task("backend")], SONNET),  # one of its workers asks a model with a price
    ],
)
def test_a_turn_may_cost_what_the_dearest_model_that_is_asked_does(
    tasks: list[PlannedTask], micros: float
) -> None:
    turn = priced(created(*tasks), our_prices(), WORKERS).facts.turn
    assert (turn.tokens, turn.cost_micros, turn.turns) == (PROMPT + REPLY, micros, 1)


def test_where_no_worker_is_known_the_dearest_of_the_table_counts() -> None:
    turn = priced(created(task("test")), our_prices(), WORKERS).facts.turn
    assert turn.cost_micros == max(price.most(PROMPT, REPLY) for price in our_prices().by_model.values())


@pytest.mark.parametrize(
    ("run", "field", "told"),
    [
        (created(task("backend", "model-x")), "plan.tasks[0].model", "asks model-x"),
        (
            created(task("backend"), task("frontend")),
            "plan.tasks[1].model",
            "the role frontend ask",
        ),
        (created(task("frontend", budget=DOLLARS), budget=Budget()), "plan.tasks[0].model", "model-x"),
    ],
)
def test_dollars_and_a_model_that_is_known_to_have_no_price_are_refused(
    run: RunCreated, field: str, told: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        priced(run, our_prices(), WORKERS)
    assert refused.value.reason == "ERROR_REASON_NO_PRICE"
    assert [each.field for each in refused.value.violations] == [field]
    assert told in refused.value.message
    assert f"as of {our_prices().as_of}" in refused.value.message


def test_a_planner_without_a_price_is_refused_by_the_goal() -> None:
    with pytest.raises(InvalidArgument) as refused:
        priced(created(goal="a goal"), our_prices(), {"planner": {"model-x"}})
    assert [each.field for each in refused.value.violations] == ["goal"]


def test_without_dollars_a_model_without_a_price_is_nobodys_concern() -> None:
    run = created(task("frontend"), budget=Budget(tokens=1000))
    assert priced(run, our_prices(), WORKERS).facts.turn.tokens == PROMPT + REPLY
