"""The server's edge: every request is validated, every exception becomes a status."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
import structlog
from google.protobuf.message import Message

from services.runtime.errors import Internal, InvalidArgument, ServiceError, Unimplemented, to_status
from services.runtime.validation import violations

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
        self._guarded: dict[str, Handler] = {}
        """By method, of those that are served: they stay the same for as long as the server lives."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        method = handler_call_details.method
        if (guarded := self._guarded.get(method)) is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return _not_served(method)
            guarded = self._guarded[method] = self._guard(method, handler)
        return guarded

    def _guard(self, method: str, handler: Handler) -> Handler:
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
                _validate(request)
                return await behaviour(request, context)
            except Exception as error:
                await _refuse(error, method, context)

        return answer

    def _streaming(self, method: str, behaviour: Any) -> Any:
        async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                _validate(request)
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


def _validate(request: Any) -> None:
    if not isinstance(request, Message):
        return  # a method registered without a deserializer
    if found := violations(request):
        told = [f"{each.field}: {each.message}" if each.field else each.message for each in found[:3]]
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        raise InvalidArgument("INVALID_REQUEST", "; ".join(told) + more, violations=found)


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
