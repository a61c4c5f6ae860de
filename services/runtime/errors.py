"""What servicers raise, and the one table from it to gRPC statuses with google.rpc details."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from codeframe.errors import DOMAIN, Violation
from codeframe.v1 import errors_pb2

# A status travels in headers, which clients bound at 8 KiB; over that, ours would not arrive at all.
MAX_MESSAGE = 600
"""Bytes of a message, at most."""

MAX_VIOLATIONS = 3000
"""Bytes of the violations of one error, at most."""


class ServiceError(Exception):
    """A call that is refused. `reason` is a value of ErrorReason, without its prefix; `metadata` adds to it
    what its comment in the protos says.

    Raises ValueError for a reason that the protos do not publish.
    """

    code: grpc.StatusCode

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = errors_pb2.ErrorReason.Name(errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}"))
        self.message = _clipped(message, MAX_MESSAGE)
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})


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


class Unimplemented(ServiceError):
    """Nothing serves that method."""

    code = grpc.StatusCode.UNIMPLEMENTED


class Internal(ServiceError):
    """A fault of the server's own; the message holds an incident id."""

    code = grpc.StatusCode.INTERNAL


def to_status(error: ServiceError) -> grpc.Status:
    """The status of an error: ErrorInfo always, BadRequest for fields, RetryInfo where waiting helps.

    As many violations are told as fit; the last one says how many more there are.
    """
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    details: list[Message] = [info]
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        details.append(retry)
    if error.violations:
        details.append(_bad_request(error.violations))
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code.name), message=error.message)
    for detail in details:
        status.details.add().Pack(detail)
    answer: grpc.Status = rpc_status.to_status(status)
    return answer


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    told = error_details_pb2.BadRequest()
    for number, each in enumerate(violations):
        told.field_violations.add(field=_clipped(each.field, 200), description=_clipped(each.message, 400))
        if told.ByteSize() > MAX_VIOLATIONS:
            del told.field_violations[-1]
            told.field_violations.add(description=f"and {len(violations) - number} more")
            break
    return told


def _clipped(text: str, size: int) -> str:
    data = text.encode()
    return text if len(data) <= size else data[: size - 3].decode(errors="ignore") + "…"
