"""What is tried against codeframe, and what of it worked: the numbers that `make attack` ends with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

RECORD = "attack"


class Kind(StrEnum):
    """What an attack is after: that bad work counts as good, or harm beyond its workspace."""

    FALSE_GREEN = "false green"
    SANDBOX = "sandbox attack"


@dataclass(frozen=True, slots=True)
class Tried:
    """One attack; a test tells it before it tries, and that it `won` once it has."""

    record: Callable[[str, object], None]
    kind: Kind
    mode: str = ""

    def begin(self) -> None:
        """It is tried."""
        self.record(RECORD, ("tried", self.kind.value, self.mode))

    def won(self) -> None:
        """It worked."""
        self.record(RECORD, ("won", self.kind.value, self.mode))


@dataclass(slots=True)
class Tally:
    """Counts by kind, and the sandbox modes that were attacked."""

    tried: dict[str, int] = field(default_factory=dict)
    won: dict[str, int] = field(default_factory=dict)
    modes: set[str] = field(default_factory=set)

    def add(self, what: str, kind: str, mode: str) -> None:
        """Count one record."""
        counts = self.tried if what == "tried" else self.won
        counts[kind] = counts.get(kind, 0) + 1
        if mode:
            self.modes.add(mode)

    def line(self) -> str:
        """The line that `make attack` ends with."""
        greens, attacks = Kind.FALSE_GREEN.value, Kind.SANDBOX.value
        modes = ", ".join(sorted(self.modes)) or "none tried"
        tried, accepted = self.tried.get(greens, 0), self.won.get(greens, 0)
        attempted, harmed = self.tried.get(attacks, 0), self.won.get(attacks, 0)
        return (
            f"{tried} false greens tried, {accepted} accepted; "
            f"{attempted} sandbox attacks, {harmed} harmed (modes: {modes})"
        )
