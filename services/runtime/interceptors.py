"""The server's edge: every request is validated, every exception becomes a status."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
import protovalidate
import structlog
from google.protobuf.message import Message

from codeframe.errors import Violation
from services.runtime.errors import Internal, InvalidArgument, ServiceError, Unimplemented, to_status

log = structlog.get_logger()

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Validates requests by their protovalidate annotations, and translates exceptions.

    A ServiceError becomes its status. Any other exception is logged once, with an incident
    id that the client gets instead of its text. CancelledError passes.
    """

    def __init__(self) -> None:
        # One for all: a validator compiles each message type's rules once, for 13 ms.
        self._validator = protovalidate.Validator()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None:
            return _not_served(method)
        if handler.request_streaming:
            return handler  # reflection's; no method of ours streams requests
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, handler.unary_stream),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, behaviour: Any) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            try:
                self._validate(request)
                return await behaviour(request, context)
            except Exception as error:
                await _refuse(error, method, context)

        return answer

    def _streaming(self, method: str, behaviour: Any) -> Any:
        async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                self._validate(request)
                responses = behaviour(request, context)
                if not hasattr(responses, "__aiter__"):
                    await responses  # it writes to the context, as the health service does
                    return
                async with aclosing(responses):
                    async for response in responses:
                        yield response
            except Exception as error:
                await _refuse(error, method, context)

        return answer

    def _validate(self, request: Any) -> None:
        if not isinstance(request, Message):
            return  # a method registered without a deserializer
        found = [each.proto for each in self._validator.collect_violations(request)]
        if found:
            violations = [Violation(_path(each.field), each.message or each.rule_id) for each in found]
            told = [f"{each.field}: {each.message}" if each.field else each.message for each in violations]
            message = "; ".join(told[:3])
            more = f"; and {len(violations) - 3} more" if len(violations) > 3 else ""
            raise InvalidArgument("INVALID_REQUEST", message + more, violations=violations)


def _path(field: Any) -> str:
    """A violation's field as `plan.tasks[2].title`; empty for the message as a whole."""
    path = ""
    for element in field.elements if field else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript:
            key = element.subscript.value
            path += f'["{key}"]' if isinstance(key, str) else f"[{key}]"
    return path


def _not_served(method: str) -> Handler:
    async def refuse(request: bytes, context: Context) -> NoReturn:
        await _refuse(NotImplementedError(), method, context)

    handler: Handler = grpc.unary_unary_rpc_method_handler(refuse)
    return handler


async def _refuse(error: Exception, method: str, context: Context) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, NotImplementedError):
        error = Unimplemented("NOT_SERVED", f"{method} is not served here")
    if not isinstance(error, ServiceError):
        incident = secrets.token_hex(4)
        log.error("a call failed", method=method, incident=incident, exc_info=error)
        error = Internal("INTERNAL", f"incident {incident}: the server's log explains it")
    status = to_status(error)
    await context.abort(status.code, status.details, tuple(status.trailing_metadata or ()))
