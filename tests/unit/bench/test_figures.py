"""Ratios are judged within a round, and a floor by their median."""

from bench.figures import Figures, as_json, as_text, short_of

FIGURES = Figures(
    1000,
    {"ours": [800.0, 400.0, 900.0], "6 threads": [100.0, 40.0, 90.0]},
    {"ours": [0.001, 0.002, 0.003], "6 threads": [0.004] * 3},
)


def test_a_ratio_is_of_one_round() -> None:
    ratio = FIGURES.ratios["6 threads"]
    assert (ratio.median, ratio.least, ratio.most) == (10.0, 8.0, 10.0)
    assert "2.00 ms of CPU each" in as_text([FIGURES])
    assert "ours is 10.00 times as fast (8.00 to 10.00), aim 8" in as_text([FIGURES])
    assert as_json([FIGURES])["1000"]["ratios"]["6 threads"]["aim"] == 8.0


def test_a_median_below_the_floor_is_told_and_so_is_what_was_not_measured() -> None:
    measured = as_json([FIGURES])
    assert short_of({"1000": {"6 threads": 10.0}}, measured) == []
    assert short_of({"1000": {"6 threads": 10.5, "64 threads": 1.3}}, measured) == [
        "1000 tasks: ours is 10.00 times as fast as 6 threads, the floor is 10.5",
        "1000 tasks: ours is 0.00 times as fast as 64 threads, the floor is 1.3",
    ]
