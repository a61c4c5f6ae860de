"""The HTTP side: routes, authentication, request ids."""

import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.claude.actor import Actor
from demo.claude.bill import Bill
from demo.claude.catalogue import model_info, model_page
from demo.claude.errors import ApiError, error_body, error_type
from demo.claude.stream import BodyResponse

MAX_BODY = 32 * 1024 * 1024
SCRIPTED = (b"x-scripted-model", b"demo.claude")
VERSIONS = ("2023-06-01", "2026-10-21")

log = logging.getLogger("scripted-claude")

Answer = Callable[[Request, str], Awaitable[Response]]


def make_app(
    actor: Actor, bill: Bill, models: tuple[str, ...], api_key: str, new_id: Callable[[str], str]
) -> Starlette:
    """The application. `new_id` makes an id after a prefix."""

    async def messages(http: Request, request_id: str) -> Response:
        turn = actor.begin(await _body(http), request_id)
        if turn.streamed:
            return BodyResponse(turn.events(), "text/event-stream; charset=utf-8", request_id, turn.headers)
        return BodyResponse(turn.whole(), "application/json", request_id, turn.headers)

    async def count_tokens(http: Request, request_id: str) -> Response:
        tokens = actor.count(await _body(http))
        return JSONResponse({"input_tokens": tokens}, headers={"request-id": request_id})

    async def list_models(http: Request, request_id: str) -> Response:
        return JSONResponse(model_page(models), headers={"request-id": request_id})

    async def get_model(http: Request, request_id: str) -> Response:
        model = http.path_params["model"]
        if model not in models:
            raise ApiError(404, f"model: {model}")
        return JSONResponse(model_info(model), headers={"request-id": request_id})

    async def show_bill(http: Request) -> Response:
        return JSONResponse({"requests": bill.requests(), **asdict(bill.summary())})

    def api(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint of the API: an id for each request, a key and a version asked of it."""

        async def endpoint(http: Request) -> Response:
            request_id = new_id("req_")
            try:
                _authenticate(http, api_key)
                _check_version(http)
                return await answer(http, request_id)
            except ApiError as error:
                return _refusal(error, request_id)

        return endpoint

    async def no_such_route(http: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _refusal(ApiError(status, f"{http.method} {http.url.path}: not served here"), new_id("req_"))

    app = Starlette(
        routes=[
            Route("/v1/messages", api(messages), methods=["POST"]),
            Route("/v1/messages/count_tokens", api(count_tokens), methods=["POST"]),
            Route("/v1/models", api(list_models)),
            Route("/v1/models/{model}", api(get_model)),
            Route("/_scripted/bill", show_bill),
        ],
        exception_handlers={HTTPException: no_such_route},
    )
    app.add_middleware(SaysWhatItIs)
    return app


class SaysWhatItIs:
    """Adds to every response the header that tells it from a model's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], SCRIPTED]}
            await send(message)

        await self._app(scope, receive, send_with_header)


def _authenticate(http: Request, api_key: str) -> None:
    """The key comes as a bearer token, as the SDK sends it since 2.12, or as x-api-key."""
    given = http.headers.get("x-api-key")
    scheme, _, token = http.headers.get("authorization", "").partition(" ")
    if given is None and scheme.lower() == "bearer":
        given = token.strip()
    if not given:
        raise ApiError(401, "an API key is required: Authorization: Bearer, or x-api-key")
    if not hmac.compare_digest(given.encode(), api_key.encode()):
        raise ApiError(401, "invalid API key")


def _check_version(http: Request) -> None:
    version = http.headers.get("anthropic-version")
    if version is None:
        raise ApiError(400, "anthropic-version: header is required")
    if version not in VERSIONS:
        raise ApiError(400, f'anthropic-version: "{version}" is not a valid version')


async def _body(http: Request) -> bytes:
    body = bytearray()
    async for part in http.stream():
        body += part
        if len(body) > MAX_BODY:
            raise ApiError(413, f"Request exceeds the maximum size of {MAX_BODY} bytes")
    return bytes(body)


def _refusal(error: ApiError, request_id: str) -> Response:
    headers = {"request-id": request_id, **error.headers}
    if error.retry_after is not None:
        headers["retry-after"] = f"{error.retry_after:g}"
    return JSONResponse(
        error_body(error_type(error.status), error.message, request_id), error.status, headers
    )
