"""Page tokens: opaque to clients, good for the request that they were given for."""

import base64
import binascii
import hashlib

from codeframe.errors import Violation
from services.runtime.errors import InvalidArgument


def page_token(place: str, *request: str) -> str:
    """A token that leads on from a place in the answer to a request, which `request` tells apart."""
    return base64.urlsafe_b64encode(_mark(request) + place.encode()).decode()


def place_of(token: str, *request: str) -> str:
    """The place that a token leads on from; empty for the first page.

    Raises InvalidArgument (INVALID_PAGE_TOKEN) for a token that was not given for this request.
    """
    if not token:
        return ""
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        mark, place = raw[:_MARK], raw[_MARK:].decode()
    except (binascii.Error, UnicodeError):
        mark, place = b"", ""
    if mark != _mark(request) or not place:
        raise _not_given()
    return place


def ordinal_of(token: str, *request: str) -> int | None:
    """The ordinal that a token leads on from; None for the first page. Raises as `place_of` does."""
    place = place_of(token, *request)
    if not place:
        return None
    if not place.isascii() or not place.isdecimal() or len(place) > 18:
        raise _not_given()
    return int(place)


_MARK = 6


def _not_given() -> InvalidArgument:
    message = "was not given for this request; start at the first page"
    violations = [Violation("page_token", message)]
    return InvalidArgument("INVALID_PAGE_TOKEN", f"page_token {message}", violations=violations)


def _mark(request: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\0".join(request).encode()).digest()[:_MARK]
