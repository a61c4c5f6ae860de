"""Who may ask: pages and programs of this machine alone."""

import ipaddress
from urllib.parse import urlsplit

import grpc
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from codeframe.client import CodeframeError
from gateway.refusals import response


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address means this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LoopbackOnly:
    """Refuses a Host that is not loopback (a page may point its own name here), and, on a
    WebSocket, whose answers a browser shows to any page, such an Origin too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        host, origin = f"//{headers.get('host', '')}", headers.get("origin")
        if not is_loopback(_host(host)):
            refused = _forbidden("the Host header names another machine")
        elif scope["type"] == "websocket" and origin is not None and not is_loopback(_host(origin)):
            refused = _forbidden("the page that asks is of another machine")
        else:
            await self._app(scope, receive, send)
            return
        await response(refused)(scope, receive, send)


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _forbidden(message: str) -> CodeframeError:
    return CodeframeError(grpc.StatusCode.PERMISSION_DENIED, "ERROR_REASON_NOT_SERVED", message)
