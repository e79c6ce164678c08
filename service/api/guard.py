"""What every answer carries, and which host names are answered at all.

A page of a stranger can make a browser on this machine ask for 127.0.0.1 under a name of its own (DNS
rebinding) and read the worklist. While the API listens on a loopback address, only loopback names and the
site's public one (`VIGIL_ADDRESS`) are answered. Where it listens for others, the proxy decides.
"""

from collections.abc import MutableMapping
from http import HTTPStatus

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.names import KnownNames
from service.api.problems import MEDIA_TYPE, problem

HEADERS: MutableMapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # By plain http a browser tells the origin of a form only where it may tell our own pages a referrer.
    "Referrer-Policy": "same-origin",
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


class Guard:
    """Outermost layer of the application: refuses foreign host names, adds the security headers.

    Parameters
    ----------
    app : ASGIApp
    known : KnownNames
    """

    def __init__(self, app: ASGIApp, known: KnownNames) -> None:
        self._app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = not self._known.is_answered(headers)
        if scope["type"] == "websocket":
            await (_close if refused or self._known.is_foreign(headers) else self._app)(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer[name] = value
                if scope["scheme"] == "https":
                    answer["Strict-Transport-Security"] = "max-age=31536000"
                if scope["path"].startswith(_VIEWER_PAGES):
                    answer["Content-Security-Policy"] = _VIEWER_POLICY
                # Nothing of a patient's stays in a browser's cache; the style sheet is asked for again.
                is_static = scope["path"].startswith("/static/")
                answer.setdefault("Cache-Control", "no-cache" if is_static else "no-store")
            await send(message)

        await (_REFUSAL if refused else self._app)(scope, receive, send_guarded)


async def _close(_: Scope, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket before it is one: the server answers 403."""
    await receive()
    await send({"type": "websocket.close", "code": REFUSED})


_REFUSAL = JSONResponse(
    problem(
        HTTPStatus.MISDIRECTED_REQUEST,
        "foreign-host",
        "This server does not answer under that host name.",
        "Use http://127.0.0.1 or http://localhost with the printed port; behind a proxy set VIGIL_ADDRESS.",
    ).model_dump(exclude_defaults=True),
    HTTPStatus.MISDIRECTED_REQUEST,
    media_type=MEDIA_TYPE,
)
