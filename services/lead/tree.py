"""The files of a run's base, as whoever decides on them sees them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tree:
    """Paths, and how to read one (None where it is not there or not text)."""

    paths: Collection[str]
    read: Callable[[str], str | None]
