"""The gate before a provider: pauses, pace, and many of them that share a limit they do not know."""

import heapq
import itertools
import math
import random
from dataclasses import dataclass

import pytest

from codeframe.model_family import model_family
from services.workers.model.gate import FORGET_AFTER, Gate


def test_where_nothing_was_refused_everybody_goes_at_once() -> None:
    gate = Gate()
    tickets = [gate.ask(5.0) for _ in range(100)]
    assert {ticket.at for ticket in tickets} == {5.0}
    assert all(gate.holds(ticket) for ticket in tickets)


def test_a_refusal_pauses_everybody_for_as_long_as_the_provider_asks() -> None:
    gate = Gate()
    refused, waiting = gate.ask(0.0), gate.ask(0.0)
    gate.refused(refused, 0.0, retry_after=30.0, chance=0.0, why="HTTP 429")
    assert not gate.holds(waiting)
    assert gate.ask(1.0).at == gate.paused_until == 30.0
    assert gate.why == "HTTP 429"


def test_after_a_pause_one_goes_first_and_the_others_follow_at_a_pace() -> None:
    gate = Gate()
    gate.refused(gate.ask(0.0), 0.0, retry_after=10.0, chance=0.0)
    assert gate.rate
    places = [gate.ask(1.0).at for _ in range(4)]
    assert places == pytest.approx([10.0 + n / gate.rate for n in range(4)])


def test_requests_that_were_sent_together_slow_the_gate_once() -> None:
    gate = Gate()
    together = [gate.ask(0.0) for _ in range(5)]
    for ticket in together:
        gate.refused(ticket, 0.1, retry_after=1.0, chance=0.0)
    once = gate.rate
    gate.refused(gate.ask(2.0), 2.0, retry_after=1.0, chance=0.0)
    assert once
    assert gate.rate
    assert gate.rate == pytest.approx(0.8 * once)


def test_a_provider_that_names_no_time_is_asked_less_and_less_often() -> None:
    gate, now, pauses = Gate(), 0.0, []
    for _ in range(8):
        ticket = gate.ask(now)
        now = ticket.at
        gate.refused(ticket, now, None, chance=1.0)
        pauses.append(gate.paused_until - now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    gate.served(now)
    ticket = gate.ask(gate.paused_until)
    gate.refused(ticket, ticket.at, None, chance=1.0)
    assert gate.paused_until - ticket.at == 1


def test_chance_spreads_those_who_wait_for_the_same_instant() -> None:
    gate = Gate()
    gate.refused(gate.ask(0.0), 0.0, retry_after=5.0, chance=1.0)
    assert gate.paused_until == 5.5


def test_what_is_served_quickens_the_gate_and_a_minute_without_a_refusal_opens_it() -> None:
    gate = Gate()
    gate.refused(gate.ask(0.0), 0.0, retry_after=1.0, chance=0.0)
    slow = gate.rate
    for _ in range(20):
        gate.served(2.0)
    assert slow
    assert gate.rate
    assert gate.rate > 1.5 * slow
    later = 1.0 + FORGET_AFTER + 0.1
    assert gate.ask(later).at == gate.ask(later).at == later
    assert gate.rate is None


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    gate = Gate()
    first, second = gate.ask(0.0), gate.ask(0.0)
    gate.refused(first, 0.0, retry_after=3600.0, chance=0.0)
    gate.refused(second, 0.5, retry_after=1.0, chance=0.0)
    assert gate.paused_until == 3600.0


@dataclass(slots=True)
class Provider:
    """Ten requests a second, and as many at once, as a bucket of tokens gives them."""

    limit: float
    tokens: float
    at: float = 0.0

    def refuses(self, now: float) -> float | None:
        """None where a request is served, else the retry-after, in whole seconds as they come."""
        self.tokens = min(self.limit, self.tokens + (now - self.at) * self.limit)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return math.ceil((1 - self.tokens) / self.limit)


def over_the_limit(workers: int, agents: int, turns: int, limit: float, think: float, seed: int) -> float:
    """How much longer it takes than the limit allows: each worker has a gate of its own."""
    chance, order = random.Random(seed), itertools.count()
    gates = [Gate() for _ in range(workers)]
    provider = Provider(limit, limit)
    left = {(worker, agent): turns for worker in range(workers) for agent in range(agents)}
    events = [
        (chance.random() / 2, next(order), gates[worker].ask(0.0), worker, agent) for worker, agent in left
    ]
    heapq.heapify(events)
    served, last = 0, 0.0
    while events:
        now, _, ticket, worker, agent = heapq.heappop(events)
        gate = gates[worker]
        if gate.holds(ticket):
            wait = provider.refuses(now)
            if wait is not None:
                gate.refused(ticket, now, wait, chance.random())
            else:
                gate.served(now)
                served, last = served + 1, now
                left[worker, agent] -= 1
                now += think * chance.uniform(0.5, 1.5)
        if left[worker, agent]:
            again = gate.ask(now)
            heapq.heappush(events, (max(now, again.at), next(order), again, worker, agent))
    assert served == workers * agents * turns
    return last / ((served - limit) / limit)


@pytest.mark.parametrize("seed", range(5))
def test_four_gates_share_a_limit_that_none_of_them_knows(seed: int) -> None:
    assert over_the_limit(workers=4, agents=10, turns=20, limit=10, think=0.3, seed=seed) < 1.25


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("claude-sonnet-5", "claude-sonnet"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet"),
        ("claude-3-5-haiku-latest", "claude-haiku"),
        ("claude-opus-4-8", "claude-opus"),
        ("qwen3-coder-30b", "qwen3-coder-30b"),
    ],
)
def test_models_of_one_family_have_one_gate(model: str, family: str) -> None:
    assert model_family(model) == family
