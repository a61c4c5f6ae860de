"""Errors as HTTP: one table, one body."""

from http import HTTPStatus

import grpc
from starlette.responses import JSONResponse

from codeframe.client import CodeframeError
from codeframe.errors import Violation

_STATUS = {
    grpc.StatusCode.CANCELLED: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}


def away(error: CodeframeError, address: str) -> CodeframeError:
    """The error, where no lead of ours answered, as one that says so."""
    if error.reason:
        return error
    return CodeframeError(
        grpc.StatusCode.UNAVAILABLE,
        "ERROR_REASON_UNAVAILABLE",
        f"the lead at {address} does not answer: {error.message}",
    )


def invalid(field: str, message: str) -> CodeframeError:
    """A request that is wrong in one of its parameters."""
    violation = Violation(field, message)
    return CodeframeError(
        grpc.StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST", "bad request", [violation]
    )


def body(error: CodeframeError) -> dict[str, object]:
    """`{"error": {code, reason, message, violations}}`; code is the gRPC status's name."""
    return {
        "error": {
            "code": error.code.name,
            "reason": error.reason,
            "message": error.message,
            "violations": [{"field": each.field, "message": each.message} for each in error.violations],
        }
    }


def response(error: CodeframeError) -> JSONResponse:
    """The HTTP response that tells an error."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after.total_seconds())))
    status = _STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    return JSONResponse(body(error), status_code=status, headers=headers)
