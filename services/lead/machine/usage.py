"""What model calls took, as an account: by model, summed, and held against a budget."""

from collections.abc import Iterable
from dataclasses import dataclass

from codeframe.budget import Charge


@dataclass(frozen=True, slots=True)
class Usage:
    """What model calls took, in tokens and millionths of a dollar, for one model.

    Where not `cost_known`, the cost is that of the calls whose price is known.
    """

    model: str
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    incomplete: bool = False
    scripted: bool = False
    cost_micros: int = 0
    cost_known: bool = True

    def __add__(self, other: "Usage") -> "Usage":
        """The sum of two usages of one model."""
        return Usage(
            self.model,
            self.turns + other.turns,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.incomplete or other.incomplete,
            self.scripted or other.scripted,
            self.cost_micros + other.cost_micros,
            self.cost_known and other.cost_known,
        )

    @property
    def tokens(self) -> int:
        """Tokens of every kind."""
        return self.input_tokens + self.output_tokens + self.cache_write_tokens + self.cache_read_tokens


def charge_of(usage: Iterable[Usage]) -> Charge:
    """What usages come to, less their time."""
    usage = tuple(usage)
    return Charge(
        sum(each.tokens for each in usage),
        sum(each.cost_micros for each in usage),
        sum(each.turns for each in usage),
    )
