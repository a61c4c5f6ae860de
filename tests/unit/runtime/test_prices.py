"""Prices: one dated table, each call priced on its own, and nothing guessed."""

from datetime import date
from pathlib import Path

import pytest

from services.runtime.prices import OURS, PricesUnusable, Tokens, our_prices, read_prices

MILLION = 1_000_000
OWN = """
source = "a contract"
as_of = 2026-01-31
[[price]]
models = ["model-x"]
input = 1
output = 2.5
cache_write = 1.25
cache_read = 0.1
"""


def test_our_table_has_its_date_and_its_source() -> None:
    prices = our_prices()
    assert prices.as_of >= date(2026, 10, 24)
    assert "Anthropic" in prices.source
    assert prices.by_model.keys() >= {"claude-sonnet-5", "claude-opus-5-5", "claude-haiku-4-5"}


@pytest.mark.parametrize(
    ("tokens", "micros"),
    [
        (Tokens(input=MILLION), 4_000_000),
        (Tokens(output=MILLION), 20_000_000),
        (Tokens(cache_write=MILLION), 5_000_000),
        (Tokens(cache_read=MILLION), 200_000),
        (Tokens(1, 1, 1, 1), 30),  # 29.2, rounded up
        (Tokens(), 0),
    ],
)
def test_a_call_costs_what_each_kind_of_its_tokens_does(tokens: Tokens, micros: int) -> None:
    assert our_prices().cost("claude-opus-5-5", tokens) == micros


def test_a_long_prompt_may_cost_more_for_the_whole_call() -> None:
    short, long = Tokens(50_000, 1000, 30_000, 20_000), Tokens(50_001, 1000, 30_000, 20_000)
    assert our_prices().cost("claude-haiku-5-5", short) == 5_000 + 500 + 3_750 + 200
    assert our_prices().cost("claude-haiku-5-5", long) == 25_001 + 2_500 + 18_750 + 1_000


def test_a_dated_snapshot_costs_what_its_model_does_and_an_unknown_model_has_no_price() -> None:
    prices = our_prices()
    assert prices.of("claude-haiku-4-5-20251001") == prices.of("claude-haiku-4-5") is not None
    for unknown in ("claude-haiku-4-51", "claude-haiku-4", "claude-opus-9", "gpt", ""):
        assert prices.cost(unknown, Tokens(input=1)) is None


def test_the_most_that_a_call_can_cost_covers_every_way_to_divide_its_prompt() -> None:
    for price in our_prices().by_model.values():
        for tokens in (Tokens(1000, 10), Tokens(0, 10, 1000), Tokens(0, 10, 0, 1000), Tokens(500, 10, 500)):
            assert price.cost(tokens) <= price.most(1000, 10)


def test_an_operators_table_takes_the_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    prices = read_prices(tmp_path / "own.toml")
    assert (prices.as_of, prices.source) == (date(2026, 1, 31), "a contract")
    assert prices.cost("model-x", Tokens(input=3, output=3)) == 11  # 10.5, rounded up
    assert prices.of("claude-sonnet-5") is None


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("as_of = 2026-01-31", 'as_of = "today"', "as_of must be a date"),
        ("as_of = 2026-01-31", "", "'as_of' is missing"),
        ("input = 1", "input = -1", "price 1: input must be dollars"),
        ("input = 1", 'input = "1"', "price 1: input must be dollars"),
        ("cache_read = 0.1", "", "'cache_read' is missing"),
        ("cache_read = 0.1", "cache_read = 0.1\ncache_raed = 0.1", "unknown key 'cache_raed'"),
        ('"model-x"', '"model-x", "model-x"', "model-x has a price already"),
        ('"a contract"', "", "Invalid value"),
    ],
)
def test_a_table_at_fault_is_refused_in_one_line(tmp_path: Path, before: str, after: str, told: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace(before, after))
    with pytest.raises(PricesUnusable, match=told) as refused:
        read_prices(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert OURS.read_text() != path.read_text()


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PricesUnusable, match="No such file"):
        read_prices(tmp_path / "none.toml")
