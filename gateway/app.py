"""The gateway as one ASGI application."""

import grpc
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from codeframe.client import Client, CodeframeError
from gateway.loopback import LoopbackOnly
from gateway.refusals import response
from gateway.rows import Rows
from gateway.sse import Events
from gateway.streams import Streams
from gateway.websocket import Frames


def make_app(client: Client, streams: Streams) -> Starlette:
    """Everything that is served, over one client."""
    frames = Frames(client, streams)
    return Starlette(
        routes=[
            Route("/healthz", _health),
            Route("/v1/events", Events(client, streams), methods=["GET"]),
            *Rows(client).routes(),
            WebSocketRoute("/ws", frames.serve),
        ],
        middleware=[Middleware(LoopbackOnly)],
        exception_handlers={404: _not_served, 405: _not_served},
    )


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "SERVING"})


async def _not_served(request: Request, error: Exception) -> Response:
    return response(
        CodeframeError(
            grpc.StatusCode.NOT_FOUND,
            "ERROR_REASON_NOT_SERVED",
            f"nothing answers {request.method} {request.url.path}; "
            "GET /v1/runs lists runs, /v1/events follows them, and so does the WebSocket /ws",
        )
    )
