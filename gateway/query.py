"""Query strings: what is not known or not a value is refused, never ignored."""

from collections.abc import Collection

from starlette.datastructures import QueryParams

from gateway.refusals import invalid


def check(query: QueryParams, known: Collection[str], repeated: Collection[str] = ()) -> None:
    """Raise INVALID_REQUEST for a parameter that is not known, or stands twice and may not."""
    for name in query:
        if name not in known and name not in repeated:
            raise invalid(name, f"unknown parameter; known here: {', '.join(sorted([*known, *repeated]))}")
        if name not in repeated and len(query.getlist(name)) > 1:
            raise invalid(name, "stands here twice")


def number(query: QueryParams, name: str) -> int:
    """A parameter that is a number, 0 where it is absent. Raises INVALID_REQUEST."""
    text = query.get(name, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise invalid(name, "must be a number")
    return int(text)


def several(query: QueryParams, name: str) -> list[str]:
    """The values of a parameter that may stand several times, each once."""
    return list(dict.fromkeys(query.getlist(name)))
