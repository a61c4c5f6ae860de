"""Budgets and charges as the API carries them, and as people write them."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from codeframe.budget import MICROS, Budget, Charge
from codeframe.durations import parse_duration
from codeframe.v1 import budget_pb2

KINDS = ("tokens", "dollars", "turns", "time")
"""What may be limited, as people call it."""

_MOST_MICROS, _MOST_TOKENS, _MOST_TURNS, _LONGEST = 10**12, 10**12, 10**9, timedelta(days=365)

Message = TypeVar("Message", budget_pb2.Budget, budget_pb2.Allowance, budget_pb2.Charge)


def read_budget(message: budget_pb2.Budget | budget_pb2.Allowance) -> Budget:
    """What may be spent."""
    return Budget(
        message.tokens if message.HasField("tokens") else None,
        message.cost_micros if message.HasField("cost_micros") else None,
        message.turns if message.HasField("turns") else None,
        message.wall_time.ToTimedelta() if message.HasField("wall_time") else None,
    )


def read_charge(message: budget_pb2.Charge) -> Charge:
    """What was spent."""
    return Charge(message.tokens, message.cost_micros, message.turns, message.wall_time.ToTimedelta())


def write_amounts(message: Message, amounts: Budget | Charge) -> Message:
    """Fill a message in, and return it; what is None stays unset."""
    for name in ("tokens", "cost_micros", "turns"):
        if (amount := getattr(amounts, name)) is not None:
            setattr(message, name, amount)
    if amounts.wall_time is not None:
        message.wall_time.FromTimedelta(amounts.wall_time)
    return message


def budget_of(written: Mapping[str, str]) -> Budget:
    """The budget that people write: amounts by KINDS. Raises ValueError, which names the amount."""
    tokens, dollars, turns, time = (written.get(kind) for kind in KINDS)
    return Budget(
        None if tokens is None else _count("tokens", tokens, _MOST_TOKENS),
        None if dollars is None else _micros(dollars),
        None if turns is None else _count("turns", turns, _MOST_TURNS),
        None if time is None else _time(time),
    )


def _count(kind: str, text: str, most: int) -> int:
    digits = text.replace("_", "")
    if not digits.isdecimal() or not 1 <= int(digits) <= most:
        raise ValueError(f"{kind}: {text!r} is not a whole number from 1 to {most:,}")
    return int(digits)


def _micros(text: str) -> int:
    try:
        micros = Decimal(text) * MICROS
    except InvalidOperation:
        micros = Decimal("NaN")
    if not micros.is_finite() or micros != int(micros) or not 1 <= micros <= _MOST_MICROS:
        most = _MOST_MICROS // MICROS
        raise ValueError(f'dollars: {text!r} is not an amount such as "2.50", of {most:,} at most')
    return int(micros)


def _time(text: str) -> timedelta:
    time = parse_duration(text)
    if time is None or not timedelta(seconds=1) <= time <= _LONGEST:
        raise ValueError(f'time: {text!r} is not a duration such as "90s" or "2h", of a second at least')
    return time
