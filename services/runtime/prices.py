"""What model calls cost, by a dated table. A price is never guessed."""

import math
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import click

OURS = Path(__file__).with_name("prices.toml")
SNAPSHOT = re.compile(r"-\d{8}$")
Command = Callable[..., None]
RATES = ("input", "output", "cache_write", "cache_read")


class PricesUnusable(Exception):
    """The table cannot be used; says where, and why."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one call."""

    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0

    @property
    def prompt(self) -> int:
        """All that the model read."""
        return self.input + self.cache_write + self.cache_read


@dataclass(frozen=True, slots=True)
class Rates:
    """Dollars for a million tokens, which are millionths of a dollar for one."""

    input: Decimal
    output: Decimal
    cache_write: Decimal
    cache_read: Decimal

    def cost(self, tokens: Tokens) -> int:
        """What they cost in millionths of a dollar, rounded up."""
        return math.ceil(
            self.input * tokens.input
            + self.output * tokens.output
            + self.cache_write * tokens.cache_write
            + self.cache_read * tokens.cache_read
        )


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's calls cost; `long`, where there is one, if the prompt has more than `above` tokens."""

    rates: Rates
    above: int = 0
    long: Rates | None = None

    def cost(self, tokens: Tokens) -> int:
        """What one call costs, in millionths of a dollar, rounded up."""
        return (self.long if self.long and tokens.prompt > self.above else self.rates).cost(tokens)

    def most(self, prompt: int, output: int) -> int:
        """The most that a call of so many tokens can cost, however the cache divides its prompt."""
        ways = (Tokens(input=prompt, output=output), Tokens(cache_write=prompt, output=output))
        return max(self.cost(tokens) for tokens in ways)


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices, taken from `source` on a day."""

    source: str
    as_of: date
    by_model: Mapping[str, Price]

    def of(self, model: str) -> Price | None:
        """The price of a model or of a dated snapshot of it; None where the table does not have it."""
        return self.by_model.get(model) or self.by_model.get(SNAPSHOT.sub("", model))

    def cost(self, model: str, tokens: Tokens) -> int | None:
        """What one call costs, in millionths of a dollar; None where the price is not known."""
        price = self.of(model)
        return price.cost(tokens) if price else None


def read_prices(path: Path = OURS) -> Prices:
    """The table in a file. Raises PricesUnusable."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise PricesUnusable(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PricesUnusable(f"{path}: {error}") from None
    try:
        return _prices(table)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PricesUnusable(f"{path}: {what}") from None


def _prices(table: Mapping[str, Any]) -> Prices:
    _only(table, ("source", "as_of", "price"), "the table")
    if not isinstance(table["as_of"], date):
        raise ValueError("as_of must be a date such as 2026-10-24")
    by_model: dict[str, Price] = {}
    for number, entry in enumerate(table["price"], start=1):
        where = f"price {number}"
        _only(entry, ("models", "long", *RATES), where)
        long = entry.get("long")
        if long is not None:
            _only(long, ("above", *RATES), f"{where}, long")
        price = Price(
            _rates(entry, where),
            long["above"] if long else 0,
            _rates(long, f"{where}, long") if long else None,
        )
        for model in entry["models"]:
            if model in by_model:
                raise ValueError(f"{where}: {model} has a price already")
            by_model[model] = price
    return Prices(str(table["source"]), table["as_of"], by_model)


def _rates(entry: Mapping[str, Any], where: str) -> Rates:
    values = [entry[name] for name in RATES]
    for name, value in zip(RATES, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or value < 0:
            raise ValueError(f"{where}: {name} must be dollars for a million tokens, not {value!r}")
    return Rates(*(Decimal(value) for value in values))


def _only(entry: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for key in entry:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}; known here: {', '.join(known)}")


@cache
def our_prices() -> Prices:
    """The table that comes with codeframe."""
    return read_prices()


def prices_option(command: Command) -> Command:
    """Gives a click command the flag for a table of one's own, which it gets as `prices: Prices`."""
    option: Callable[[Command], Command] = click.option(
        "--prices",
        type=click.Path(path_type=Path),
        default=OURS,
        show_default="Anthropic's, as codeframe knows them",
        show_envvar=True,
        envvar="CODEFRAME_PRICES",
        callback=_read_option,
        help="TOML file with the prices of models. Give lead and workers the same.",
    )
    return option(command)


def _read_option(context: click.Context, parameter: click.Parameter, path: Path) -> Prices:
    try:
        return read_prices(path)
    except PricesUnusable as error:
        raise click.BadParameter(str(error), param_hint="--prices") from None
