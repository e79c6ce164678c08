"""What every answer carries, and which host names are answered at all.

A page of a stranger can make a browser on this machine ask for 127.0.0.1 under a name of its own (DNS
rebinding) and read the worklist. While the API listens on a loopback address, only loopback names are
answered. Behind a proxy the proxy decides.
"""

from collections.abc import MutableMapping
from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.peer import is_loopback
from service.api.problems import MEDIA_TYPE, problem

HEADERS: MutableMapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    # Nothing here uses a device or an offer of the browser's; a defect cannot either.
    "Permissions-Policy": ", ".join(
        f"{feature}=()"
        for feature in (
            *("accelerometer", "browsing-topics", "camera", "display-capture", "geolocation", "gyroscope"),
            *("hid", "magnetometer", "microphone", "midi", "payment", "serial", "usb"),
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# The viewer of the study page, besides: its letters and its shading are pictures inside its own file, as
# data: addresses. It needs no worker, no blob, no WebAssembly and no style of its own for what it shows here.
_VIEWER_POLICY = f"{HEADERS['Content-Security-Policy']}; img-src 'self' data:"
_VIEWER_PAGES = "/studies/"
REFUSED = 1008  # close code of a WebSocket: policy
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """Outermost layer of the application: refuses foreign host names, adds the security headers.

    Parameters
    ----------
    app : ASGIApp
    api_host : str
        Address the API listens on.
    """

    def __init__(self, app: ASGIApp, api_host: str) -> None:
        self._app = app
        self._names = _LOOPBACK_NAMES | {api_host} if is_loopback(api_host) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refused = self._names is not None and _host(scope) not in self._names
        if scope["type"] == "websocket":
            await (_close if refused or _is_foreign(scope) else self._app)(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
                if scope["path"].startswith(_VIEWER_PAGES):
                    headers["Content-Security-Policy"] = _VIEWER_POLICY
                # Nothing of a patient's stays in a browser's cache; the style sheet is asked for again.
                is_static = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if is_static else "no-store")
            await send(message)

        await (_REFUSAL if refused else self._app)(scope, receive, send_guarded)


async def _close(_: Scope, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket before it is one: the server answers 403."""
    await receive()
    await send({"type": "websocket.close", "code": REFUSED})


def _is_foreign(scope: Scope) -> bool:
    """Whether another site's page opens it. Browsers always say; programs say nothing (RFC 6455 10.2)."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def _host(scope: Scope) -> str:
    """Host name of the request, without port and brackets, lower case."""
    host = Headers(scope=scope).get("host", "").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


_REFUSAL = JSONResponse(
    problem(
        HTTPStatus.MISDIRECTED_REQUEST,
        "foreign-host",
        "This server does not answer under that host name.",
        "Use http://127.0.0.1 or http://localhost with the printed port, or set VIGIL_API_HOST.",
    ).model_dump(exclude_defaults=True),
    HTTPStatus.MISDIRECTED_REQUEST,
    media_type=MEDIA_TYPE,
)
