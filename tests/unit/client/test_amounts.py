"""Budgets as people write them."""

from datetime import timedelta

import pytest

from codeframe.amounts import budget_of, read_budget, write_amounts
from codeframe.budget import Budget, Charge
from codeframe.v1 import budget_pb2

WRITTEN = {"tokens": "2_000_000", "dollars": "2.50", "turns": "40", "time": "1h30m"}
WHOLE = Budget(2_000_000, 2_500_000, 40, timedelta(minutes=90))


def test_a_budget_is_read_written_and_read_again() -> None:
    assert budget_of(WRITTEN) == WHOLE
    assert read_budget(write_amounts(budget_pb2.Budget(), WHOLE)) == WHOLE
    assert read_budget(write_amounts(budget_pb2.Allowance(), Budget(turns=3))) == Budget(turns=3)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(("tokens", text) for text in ("0", "-1", "1.5", "2k", "", "9" * 20)),
        *(("dollars", text) for text in ("0", "-2", "$5", "nan", "inf", "0.0000001", "1e9", "")),
        *(("turns", text) for text in ("0", "many")),
        *(("time", text) for text in ("90", "0.5s", "1 day", "9000h")),
    ],
)
def test_an_amount_that_is_none_names_its_kind(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{kind}: {text!r} is not".replace("$", r"\$")):
        budget_of({kind: text})


def test_what_is_spent_is_told_beside_what_may_be() -> None:
    spent = Charge(1_500, 310_000, 7, timedelta(seconds=61))
    assert Budget(1_000, 500_000, 40, timedelta(minutes=2)).described(spent) == (
        "1,500 of 1,000 tokens, $0.31 of $0.50, 7 of 40 turns, 61 of 120 s of attempts"
    )
    assert Budget().described(spent) == "no limit"
