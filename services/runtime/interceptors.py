"""The server's edge: every request is validated, every exception becomes a status."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
import protovalidate
import structlog
from google.protobuf.message import Message

from services.runtime.errors import FieldViolation, Internal, InvalidArgument, ServiceError, to_status

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Validates requests by their protovalidate annotations, and translates exceptions.

    A ServiceError becomes its status. Any other exception is logged once, with an incident
    id that the client gets instead of its text. CancelledError passes.
    """

    def __init__(self) -> None:
        # One for all: a validator compiles each message type's rules once, for 13 ms.
        self._validator = protovalidate.Validator()

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(details)
        if handler is None or handler.request_streaming:
            return handler
        method = details.method
        if handler.response_streaming:
            stream: Any = handler.unary_stream

            async def answer_stream(request: Message, context: Context) -> AsyncIterator[Any]:
                try:
                    self._validate(request)
                    async for response in stream(request, context):
                        yield response
                except Exception as error:
                    await _refuse(error, method, context)

            return grpc.unary_stream_rpc_method_handler(
                answer_stream,
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        unary: Any = handler.unary_unary

        async def answer(request: Message, context: Context) -> Any:
            try:
                self._validate(request)
                return await unary(request, context)
            except Exception as error:
                await _refuse(error, method, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _validate(self, request: Message) -> None:
        violations = self._validator.collect_violations(request)
        if not violations:
            return
        fields = [
            FieldViolation(_path(violation.proto.field), violation.proto.message) for violation in violations
        ]
        named = ", ".join(each.field for each in fields[:5])
        raise InvalidArgument("INVALID_REQUEST", f"invalid: {named}", violations=fields)


def _path(field: Any) -> str:
    """A violation's field as `plan.tasks[2].title`."""
    path = ""
    for element in field.elements:
        path += f".{element.field_name}" if path else element.field_name
        kind = element.WhichOneof("subscript")
        if kind:
            subscript = getattr(element, kind)
            path += f'["{subscript}"]' if kind == "string_key" else f"[{subscript}]"
    return path


async def _refuse(error: Exception, method: str, context: Context) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, ServiceError):
        incident = secrets.token_hex(4)
        log.error("a call failed", method=method, incident=incident, exc_info=error)
        error = Internal("INTERNAL", f"incident {incident}: the server's log explains it")
    status = to_status(error)
    await context.abort(status.code, status.details, tuple(status.trailing_metadata or ()))
