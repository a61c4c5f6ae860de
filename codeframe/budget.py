"""Amounts: what may be spent, and what was. Pure; the API's messages of the same names are made elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

MICROS = 1_000_000
"""Millionths in a dollar."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What was spent, is reserved, or is estimated. Tokens are of every kind, cached ones too."""

    tokens: int = 0
    cost_micros: int = 0
    turns: int = 0
    wall_time: timedelta = timedelta()

    def __add__(self, other: "Charge") -> "Charge":
        return Charge(*(mine + theirs for mine, theirs in zip(_each(self), _each(other), strict=True)))

    def __sub__(self, other: "Charge") -> "Charge":
        return Charge(*(mine - theirs for mine, theirs in zip(_each(self), _each(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent: by a run, by a task over all its attempts, or, as its allowance, by an attempt.

    None is no limit.
    """

    tokens: int | None = None
    cost_micros: int | None = None
    turns: int | None = None
    wall_time: timedelta | None = None

    @property
    def limited(self) -> bool:
        """Whether it limits anything."""
        return self != NO_LIMIT

    def rest(self, charge: Charge) -> "Budget":
        """What a charge leaves of it; less than nothing where it is passed."""
        return Budget(*(None if may is None else may - was for may, was in _pairs(self, charge)))

    def least(self, other: "Budget") -> "Budget":
        """The lower of both, in each of its kinds."""
        pairs = zip(_each(self), _each(other), strict=True)
        return Budget(*(min((each for each in pair if each is not None), default=None) for pair in pairs))

    def share(self, ways: int, at_least: Charge) -> "Budget":
        """One of so many equal parts, but no less than `at_least`, where the whole has as much."""
        pairs = _pairs(self, at_least)
        return Budget(*(None if may is None else min(may, max(may // ways, least)) for may, least in pairs))

    def is_spent_by(self, charge: Charge) -> bool:
        """Whether a charge takes all of it, in one of its kinds."""
        return any(may is not None and was >= may for may, was in _pairs(self, charge))

    def is_below(self, charge: Charge) -> bool:
        """Whether a charge would pass it, in one of its kinds."""
        return any(may is not None and was > may for may, was in _pairs(self, charge))

    def beyond(self, charge: Charge, otherwise: Charge) -> Charge:
        """What may be spent after a charge, at least nothing; what is not limited is as `otherwise` says."""
        left = zip(_each(self.rest(charge)), _each(otherwise), _each(NOTHING), strict=True)
        return Charge(*(other if rest is None else max(rest, none) for rest, other, none in left))

    def described(self, charge: Charge) -> str:
        """What was spent of what may be, for people: "1,200 of 1,000 tokens, $0.31 of $0.50"."""
        told = []
        if self.tokens is not None:
            told.append(f"{charge.tokens:,} of {self.tokens:,} tokens")
        if self.cost_micros is not None:
            told.append(f"{dollars(charge.cost_micros)} of {dollars(self.cost_micros)}")
        if self.turns is not None:
            told.append(f"{charge.turns:,} of {self.turns:,} turns")
        if self.wall_time is not None:
            spent, may = charge.wall_time.total_seconds(), self.wall_time.total_seconds()
            told.append(f"{spent:,.0f} of {may:,.0f} s of attempts")
        return ", ".join(told) or "no limit"


NOTHING = Charge()
NO_LIMIT = Budget()


def dollars(micros: int) -> str:
    """An amount for people: in cents, and below a dollar as exactly as it is known."""
    in_cents = abs(micros) >= MICROS or micros % (MICROS // 100) == 0
    return f"${micros / MICROS:,.2f}" if in_cents else f"${micros / MICROS:.6f}"


def _each(amounts: Charge | Budget) -> tuple[Any, ...]:
    """Its kinds of amounts, in the order in which both have them."""
    return amounts.tokens, amounts.cost_micros, amounts.turns, amounts.wall_time


def _pairs(budget: Budget, charge: Charge) -> Iterator[tuple[Any, Any]]:
    return zip(_each(budget), _each(charge), strict=True)
