"""The SDK's exceptions, as the trouble that they tell of."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anthropic
import httpx2

from services.workers.model.events import StreamBroken
from services.workers.model.retry import Trouble
from services.workers.outcome import Outcome

# What a try can raise that is the provider's or the network's doing. Anything else is a fault of our own.
EXPECTED = (
    anthropic.AnthropicError,
    httpx2.HTTPError,
    httpx2.StreamError,
    OSError,  # TimeoutError is one
    ValueError,  # an event that is not JSON, or not UTF-8
    StreamBroken,
)
MAX_DETAIL = 2000
PASSING_STATUS = frozenset({408, 409, 425, 429})  # and all from 500
TOO_LONG = ("prompt is too long", "exceed context limit")  # how the provider says so, under status 400
PASSING_ERRORS = frozenset({"overloaded_error", "api_error", "rate_limit_error", "timeout_error"})


def trouble_of(error: Exception, request_id: str, now: datetime) -> Trouble:
    """Say what an expected exception means. `request_id` is that of the stream, where there was one."""
    if isinstance(error, anthropic.APIStatusError):
        return _refused(error, request_id, now)
    cause = error.__cause__ if isinstance(error, anthropic.APIConnectionError) and error.__cause__ else error
    what = "the connection stalled" if _is_timeout(error) else "the connection failed"
    if isinstance(error, (StreamBroken, ValueError)):
        what = "the stream broke"
    return Trouble(
        _detail(f"{what}: {type(cause).__name__}: {cause}".removesuffix(": "), request_id),
        shared=isinstance(cause, (httpx2.ConnectError, httpx2.ConnectTimeout)),
    )


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, (anthropic.APITimeoutError, httpx2.TimeoutException, TimeoutError))


def _refused(error: anthropic.APIStatusError, request_id: str, now: datetime) -> Trouble:
    """An error status, or (under status 200) an error event in a stream."""
    kind = _error_field(error.body, "type")
    message = _error_field(error.body, "message") or str(error.message)
    status = error.status_code
    if status < 300:
        passing, what = kind in PASSING_ERRORS, f"the stream told {kind or 'an error'}"
    else:
        passing, what = status in PASSING_STATUS or status >= 500, f"HTTP {status} {kind}".rstrip()
    return Trouble(
        _detail(f"{what}: {message}", error.request_id or request_id),
        outcome=None if passing else Outcome.PROVIDER_REJECTED,
        shared=passing,
        retry_after=_retry_after(error.response.headers, now) if passing else None,
    )


def is_too_long(error: Exception) -> bool:
    """Whether the conversation is longer than the model's context, or the request than may be sent."""
    if not isinstance(error, anthropic.APIStatusError):
        return False
    if error.status_code == 413:
        return True
    message = _error_field(error.body, "message")
    return error.status_code == 400 and any(sign in message for sign in TOO_LONG)


def _error_field(body: object, name: str) -> str:
    error = body.get("error") if isinstance(body, Mapping) else None
    value = error.get(name) if isinstance(error, Mapping) else None
    return value if isinstance(value, str) else ""


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the provider asks to wait, told as seconds or as a date."""
    told = headers.get("retry-after", "")
    try:
        seconds = float(told)
    except ValueError:
        try:
            date = parsedate_to_datetime(told)
        except (TypeError, ValueError):
            return None
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _detail(text: str, request_id: str) -> str:
    clipped = text if len(text) <= MAX_DETAIL else text[:MAX_DETAIL] + "…"
    return f"{clipped} (request {request_id})" if request_id else clipped
