"""Globs over paths with slashes: "**" for any folders, also none; "*" for anything but a slash."""

import re
from functools import lru_cache


@lru_cache(maxsize=100)
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{_expression(glob)})" for glob in globs) or r"(?!)", re.DOTALL)


def _expression(glob: str) -> str:
    pieces = re.split(r"(\*\*/|\*\*|\*)", glob)
    meanings = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return "".join(meanings.get(piece, re.escape(piece)) for piece in pieces)


def matches(globs: tuple[str, ...], path: str) -> bool:
    """Whether the whole path fits one of the globs."""
    return _compiled(globs).fullmatch(path) is not None
