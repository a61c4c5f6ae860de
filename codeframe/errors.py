"""Why a call failed, as the services tell it: the reason, and what to mend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "codeframe"
DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request, by its path, and what is wrong with it."""

    field: str
    message: str


class CodeframeError(Exception):
    """A call that a service refused or could not do.

    `reason` is the name of an ErrorReason, such as `ERROR_REASON_RUN_NOT_FOUND`; it is empty
    where the status says nothing about the work (a proxy's, a broken connection's).
    `retry_after` is set where waiting helps. `metadata` is what the reason's comment in the protos says, such
    as `oldest_revision`.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        details = "; ".join(f"{each.field}: {each.message}" for each in self.violations)
        return f"{self.message} ({details})" if details else self.message


def from_rpc_error(error: grpc.RpcError) -> CodeframeError:
    """The error that a failed call tells, its `reason` empty where no service of ours told it."""
    call: Any = error  # grpc's own type has no methods; every error that a call raises has these
    code: grpc.StatusCode = call.code()
    reason, violations, retry_after, metadata = "", list[Violation](), None, dict[str, str]()
    for detail in _details(call.trailing_metadata()):
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            violations += [Violation(each.field, each.description) for each in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
    return CodeframeError(code, reason, call.details() or code.name, violations, retry_after, metadata)


def _details(trailers: Any) -> Sequence[Any]:
    for key, value in trailers or ():
        if key == DETAILS:
            try:
                return tuple(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return ()
    return ()
