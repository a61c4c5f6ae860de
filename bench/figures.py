"""What was measured: rates, the ratios between them in each round, and how far they spread."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "ours"
AIM: Mapping[str, Mapping[str, float]] = {
    "1": {"6 threads": 1.0, "64 threads": 1.0},
    "1000": {"6 threads": 8.0, "64 threads": 1.3},
}
"""The ratios that we want, by number of tasks. What must be is in floor.json."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some numbers, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        return cls(statistics.median(numbers), min(numbers), max(numbers))


@dataclass(frozen=True, slots=True)
class Figures:
    """For one number of tasks: by contestant, tasks a second in each round. All ran in each round.

    `cpu` is the processor time of the contestant for one task, in seconds.
    """

    tasks: int
    rates: Mapping[str, list[float]]
    cpu: Mapping[str, list[float]]

    @property
    def ratios(self) -> dict[str, Spread]:
        """How many times as fast ours is as each other, judged within each round."""
        return {
            name: Spread.of([ours / other for ours, other in zip(self.rates[OURS], rates, strict=True)])
            for name, rates in self.rates.items()
            if name != OURS
        }


def as_json(figures: Sequence[Figures]) -> dict[str, Any]:
    """All of it, as it is written to a file."""
    return {
        str(each.tasks): {
            "cpu ms a task": {name: [round(1000 * one, 2) for one in cpu] for name, cpu in each.cpu.items()},
            "tasks a second": {
                name: [round(rate, 1) for rate in rates] for name, rates in each.rates.items()
            },
            "ratios": {
                name: {
                    "median": round(s.median, 3),
                    "least": round(s.least, 3),
                    "most": round(s.most, 3),
                    "aim": _aim(each, name),
                }
                for name, s in each.ratios.items()
            },
        }
        for each in figures
    }


def _aim(figures: Figures, name: str) -> float | None:
    return AIM.get(str(figures.tasks), {}).get(name)


def as_text(figures: Sequence[Figures]) -> str:
    """All of it, for people."""
    lines = []
    for each in figures:
        lines.append(f"{each.tasks} tasks" if each.tasks > 1 else "one task at a time")
        for name, rates in each.rates.items():
            spread = Spread.of(rates)
            cpu = 1000 * Spread.of(each.cpu[name]).median
            told = f"  {name:12} {spread.median:7.1f} tasks/s ({spread.least:.1f} to {spread.most:.1f})"
            told += f", {cpu:.2f} ms of CPU each"
            if name in each.ratios:
                ratio = each.ratios[name]
                told += f"; ours is {ratio.median:.2f} times as fast ({ratio.least:.2f} to {ratio.most:.2f})"
                if (aim := _aim(each, name)) is not None:
                    told += f", aim {aim:g}"
            lines.append(told)
    return "\n".join(lines)


def short_of(floor: Mapping[str, Mapping[str, float]], measured: Mapping[str, Any]) -> list[str]:
    """Where the median ratio is below the floor, a line each; also where it was not measured."""
    short = []
    for tasks, least in floor.items():
        for name, bound in least.items():
            ratio = measured.get(tasks, {}).get("ratios", {}).get(name, {}).get("median", 0.0)
            if ratio < bound:
                short.append(
                    f"{tasks} tasks: ours is {ratio:.2f} times as fast as {name}, the floor is {bound:g}"
                )
    return short
