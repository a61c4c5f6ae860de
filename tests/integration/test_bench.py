"""The bench does what it measures; how fast is for `make bench`, on a quiet machine."""

from bench.__main__ import measure


async def test_all_contestants_do_their_tasks() -> None:
    (figures,) = await measure(rounds=2, sizes=(10,), threads=(2,), warm_up=5)
    assert figures.rates.keys() == {"ours", "2 threads"}
    assert all(len(rates) == 2 and min(rates) > 0 for rates in figures.rates.values())
