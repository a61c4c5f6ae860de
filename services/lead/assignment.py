"""Which role a task is for, where its plan names none: by whole words of its title and description."""

import re
from collections.abc import Collection


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORDS: dict[str, frozenset[str]] = {
    "frontend": _words(
        """frontend front-end ui ux component components react vue svelte angular css html stylesheet style
        page pages button form layout browser dom jsx tsx responsive widget screen"""
    ),
    "test": _words(
        """test tests testing pytest unittest vitest jest coverage spec specs e2e regression
        integration-test unit-test"""
    ),
    "backend": _words(
        """backend back-end api endpoint endpoints server database db sql schema migration model models
        service services auth authentication query queue worker cache handler route routes orm"""
    ),
}
DEFAULT_ROLE = "backend"
TITLE_WEIGHT = 2

_WORD = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def assign_role(title: str, description: str, served: Collection[str] = tuple(WORDS)) -> str:
    """The role whose words occur most, a word of the title counting twice; backend where none leads.

    Only whole words count: "Build the database" holds no "ui", "latest" no "test".
    """
    in_title = _WORD.findall(title.lower())
    in_description = _WORD.findall(description.lower())
    scores = {
        role: TITLE_WEIGHT * sum(word in words for word in in_title)
        + sum(word in words for word in in_description)
        for role, words in WORDS.items()
        if role in served
    }
    best = max(scores.values(), default=0)
    leaders = [role for role, score in scores.items() if score == best]
    return leaders[0] if best > 0 and len(leaders) == 1 else DEFAULT_ROLE
