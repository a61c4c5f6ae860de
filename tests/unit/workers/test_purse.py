"""What an attempt may spend, asked before each call."""

import pytest

from codeframe.budget import Budget
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.purse import Purse
from services.workers.work import ModelUsage


def refusal(purse: Purse) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as refused:
        purse.begin_turn()
    return refused.value


@pytest.mark.parametrize(
    ("allowance", "told"),
    [
        (Budget(tokens=30), "30 of 30 tokens"),
        (Budget(cost_micros=5000), "$0.006000 of $0.005000"),
        (Budget(turns=2), "2 of 2 turns"),
    ],
)
def test_a_call_may_pass_the_allowance_and_the_next_is_refused(allowance: Budget, told: str) -> None:
    purse = Purse(allowance)
    for _ in range(2):
        purse.begin_turn()
        purse.pay(ModelUsage("m", 1, 4, 5, 3, 3, cost_micros=3000))
    failed = refusal(purse)
    assert failed.outcome is Outcome.ALLOWANCE_SPENT
    assert told in failed.message


def test_a_try_that_broke_is_paid_and_no_further_one_is_asked_for_than_is_left() -> None:
    purse = Purse(Budget(tokens=15, turns=1))
    purse.begin_turn()
    purse.pay(ModelUsage("m", 1, 10, incomplete=True))
    purse.ask_again()  # the same turn: it is under way already
    purse.pay(ModelUsage("m", 1, 10, incomplete=True))
    with pytest.raises(AttemptFailed) as refused:
        purse.ask_again()
    assert refused.value.outcome is Outcome.ALLOWANCE_SPENT


def test_a_reply_without_a_known_price_ends_an_attempt_that_has_dollars() -> None:
    unpriced = ModelUsage("model-x", 1, 10, cost_known=False)
    purse = Purse(Budget(cost_micros=5000))
    purse.pay(unpriced)
    failed = refusal(purse)
    assert failed.outcome is Outcome.LIMIT_EXCEEDED
    assert "model-x" in failed.message
    unlimited = Purse(Budget(tokens=1000))
    unlimited.pay(unpriced)
    unlimited.begin_turn()
