"""A mutant, and which of many are tried. Pure."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

SHOWN = 60  # characters of what is changed


class Kind(IntEnum):
    """What a mutant changes, those first that a test notices most likely."""

    RESULT = 0
    CONDITION = 1
    OPERATOR = 2
    CALL = 3
    NUMBER = 4
    TEXT = 5


@dataclass(frozen=True, slots=True)
class Mutant:
    """The bytes from `start` to `end` of a file, replaced. `owner` names what holds them, outermost first."""

    path: str
    line: int
    start: int
    end: int
    before: str
    after: str
    kind: Kind
    owner: tuple[str, ...] = ()

    def applied(self, source: bytes) -> bytes:
        """The file's bytes with the change."""
        return source[: self.start] + self.after.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: `{_shown(self.before)}` became `{_shown(self.after)}`"


def chosen(files: Iterable[Sequence[Mutant]], words: frozenset[str], most: int) -> list[Mutant]:
    """At most `most` mutants of files, nearest first, in the order in which they are tried.

    First those of functions that the tests name (`words`), then those of classes that they name, then all
    others; in turn from each function, so that none takes all.
    """
    tiers: list[dict[tuple[str, tuple[str, ...]], list[Mutant]]] = [{}, {}, {}]
    for mutants in files:
        for mutant in sorted(mutants, key=lambda mutant: (mutant.kind, mutant.start)):
            tiers[_distance(mutant.owner, words)].setdefault((mutant.path, mutant.owner), []).append(mutant)
    found: list[Mutant] = []
    for tier in tiers:
        rounds = itertools.zip_longest(*tier.values())
        found += (mutant for turn in rounds for mutant in turn if mutant is not None)
    return found[:most]


def _distance(owner: tuple[str, ...], words: frozenset[str]) -> int:
    if owner and owner[-1] in words:
        return 0
    return 1 if words.intersection(owner) else 2


def _shown(text: str) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= SHOWN else folded[: SHOWN - 1] + "…"
