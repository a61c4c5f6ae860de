"""What one turn of a run is taken to need, and whether it can be paid for in dollars. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from codeframe.budget import Charge
from codeframe.errors import Violation
from codeframe.plan import PLANNER
from services.lead.machine.private_records import RunCreated
from services.runtime.errors import InvalidArgument
from services.runtime.prices import Prices

PROMPT, REPLY = 200_000, 32_000
"""Tokens of a long turn: a prompt that is seldom longer, and the longest reply that workers ask for."""

SHORTEST = timedelta(minutes=1)
"""The time that an attempt is given at least, while others may still leave some."""

Models = Mapping[str, Collection[str]]


def priced(created: RunCreated, prices: Prices, models: Models) -> RunCreated:
    """The record that a run begins with, and what one turn of the dearest model that it asks may need.

    `models` are those that workers ask by themselves, by role, as far as they are known; where none is, the
    dearest of the table counts. Raises InvalidArgument, NO_PRICE, where dollars are limited and a model is
    known to have no price.
    """
    unpriced = list(_unpriced(created, prices, models))
    if unpriced:
        message = f"{unpriced[0].message}; name another, or limit tokens or turns instead"
        raise InvalidArgument("NO_PRICE", message, violations=unpriced[:100])
    asked = {(task.role, task.model) for task in created.tasks}
    if created.facts.goal:
        asked.add((PLANNER, created.facts.planner_model))
    names = {name for role, model in asked for name in ([model] if model else models.get(role, ()))}
    found = [price for name in names if (price := prices.of(name))] or list(prices.by_model.values())
    dearest = max((price.most(PROMPT, REPLY) for price in found), default=0)
    turn = Charge(PROMPT + REPLY, dearest, turns=1, wall_time=SHORTEST)
    return replace(created, facts=replace(created.facts, turn=turn))


def _unpriced(created: RunCreated, prices: Prices, models: Models) -> Iterator[Violation]:
    facts = created.facts
    in_dollars = facts.budget.cost_micros is not None
    if in_dollars and facts.goal and (why := _no_price(PLANNER, facts.planner_model, prices, models)):
        yield Violation("goal", f"the budget is in dollars; to make a plan of the goal {why}")
    for index, task in enumerate(created.tasks):
        limited = in_dollars or task.budget.cost_micros is not None
        if limited and (why := _no_price(task.role, task.model, prices, models)):
            yield Violation(f"plan.tasks[{index}].model", f"the budget is in dollars; task {task.id!r} {why}")


def _no_price(role: str, model: str, prices: Prices, models: Models) -> str:
    """Why a model has no price, in a clause; empty where it has one, or is not known yet."""
    known = [model] if model else models.get(role, ())
    if not known or any(prices.of(name) for name in known):
        return ""
    names = ", ".join(sorted(known))
    who = "asks" if model else f"names no model, and the workers of the role {role} ask"
    return f"{who} {names}, without a price as of {prices.as_of}"
