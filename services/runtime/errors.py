"""What servicers raise, and the one table from it to gRPC statuses with google.rpc details."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from codeframe.errors import DOMAIN
from codeframe.v1 import errors_pb2


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request, by its path, and what is wrong with it."""

    field: str
    message: str


class ServiceError(Exception):
    """A call that is refused. `reason` is a value of ErrorReason, without its prefix.

    Raises ValueError for a reason that the protos do not publish.
    """

    code: grpc.StatusCode

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = errors_pb2.ErrorReason.Name(errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}"))
        self.message = message
        self.violations = tuple(violations)
        self.retry_after = retry_after


class InvalidArgument(ServiceError):
    """The request is wrong as it is; `violations` name its fields."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(ServiceError):
    """What the request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(ServiceError):
    """The id was used with another payload."""

    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(ServiceError):
    """It cannot be done as things stand, and waiting does not help."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class OutOfRange(ServiceError):
    """The cursor leads nowhere."""

    code = grpc.StatusCode.OUT_OF_RANGE


class ResourceExhausted(ServiceError):
    """Everything is taken; `retry_after` says how long to wait."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Aborted(ServiceError):
    """Others were quicker; ask again."""

    code = grpc.StatusCode.ABORTED


class Unavailable(ServiceError):
    """The server is stopping, or something it needs is away; ask again."""

    code = grpc.StatusCode.UNAVAILABLE


class Internal(ServiceError):
    """A fault of the server's own; the message holds an incident id."""

    code = grpc.StatusCode.INTERNAL


def to_status(error: ServiceError) -> grpc.Status:
    """The status of an error: ErrorInfo always, BadRequest for fields, RetryInfo where waiting helps."""
    details: list[any_pb2.Any] = []
    for detail in _details(error):
        packed = any_pb2.Any()
        packed.Pack(detail)
        details.append(packed)
    code = code_pb2.Code.Value(error.code.name)
    status: grpc.Status = rpc_status.to_status(
        status_pb2.Status(code=code, message=error.message, details=details)
    )
    return status


def _details(error: ServiceError) -> list[Message]:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if error.violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=each.field, description=each.message)
            for each in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        details.append(retry)
    return details
