"""What the API answers where it does not reply: a status, and an error body of Anthropic's shape."""

from collections.abc import Mapping
from types import MappingProxyType

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(status: int) -> str:
    """The type of error that the API sends with an HTTP status."""
    return _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


class ApiError(Exception):
    """A request is refused. `retry_after` is in seconds; `headers` are sent too."""

    def __init__(
        self,
        status: int,
        message: str,
        retry_after: float | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.headers = headers
        self.status = status
        self.message = message
        self.retry_after = retry_after


def error_body(type_: str, message: str, request_id: str) -> dict[str, object]:
    """The body of an error, as a response and as a stream's `error` event."""
    return {"type": "error", "error": {"type": type_, "message": message}, "request_id": request_id}
