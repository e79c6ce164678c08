"""What is refused before anybody is asked who they are: too much, of the wrong kind, from another site.

A page of a stranger can make a browser send a form or an empty POST anywhere, with the cookies of that place
or to a server on this machine. Browsers say where a request comes from; programs say nothing, and bring a
token.
"""

from http import HTTPStatus

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.names import KnownNames
from service.api.problems import Answer, Problem, problem

MOST_BYTES = 256 * 1024  # of a body; the largest we take, a note with its verdict, is a few thousand
INSTANCES = "/dicom-web/studies"  # takes instances as they come and bounds each (STOW-RS)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OWN = frozenset({"same-origin", "none"})


class Entry:
    """Layer of the application that looks at size, kind and origin of a request.

    Parameters
    ----------
    app : ASGIApp
    answer : callable
        A page that says a problem to a browser, or the problem document.
    known : KnownNames
    """

    def __init__(self, app: ASGIApp, answer: Answer, known: KnownNames) -> None:
        self._app, self._answer, self._known = app, answer, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # of WebSockets the guard has looked at the origin
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_instances = scope["method"] == "POST" and scope["path"].startswith(INSTANCES)
        if scope["method"] not in SAFE and self._is_foreign(headers):
            await self._refuse(_FOREIGN, scope, receive, send)
        elif is_instances:
            await self._app(scope, receive, send)
        elif _length(headers) > MOST_BYTES:
            await self._refuse(_TOO_LARGE, scope, receive, send)
        elif scope["path"].startswith("/api/") and _has_body(headers) and not _is_json(headers):
            await self._refuse(_NOT_JSON, scope, receive, send)
        else:
            await self._app(scope, _bounded(receive), send)

    def _is_foreign(self, headers: Headers) -> bool:
        """Whether a browser says that another site's page sends it (Fetch Metadata, or Origin)."""
        site = headers.get("sec-fetch-site")
        return self._known.is_foreign(headers) if site is None else site not in OWN

    async def _refuse(self, told: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(Request(scope), told)(scope, receive, send)


def _bounded(receive: Receive) -> Receive:
    """Stop reading a body that says nothing of its length and does not end."""
    read = 0

    async def receive_bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    return receive_bounded


def _length(headers: Headers) -> int:
    """Length of the body as told; 0 where nothing is told: HTTP servers refuse what is no number."""
    told = headers.get("content-length", "")
    return int(told) if told.isdecimal() else 0


def _has_body(headers: Headers) -> bool:
    return _length(headers) > 0 or "transfer-encoding" in headers


def _is_json(headers: Headers) -> bool:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


_FOREIGN = problem(
    HTTPStatus.FORBIDDEN,
    "cross-site",
    "Another site's page sent this request.",
    "Open Vigil's own page and do it there; programs send no Origin.",
)
_TOO_LARGE = problem(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "too-large",
    "The body is larger than anything this address takes.",
    f"Send at most {MOST_BYTES} bytes.",
)
_NOT_JSON = problem(
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "not-json",
    "The body is not JSON by its Content-Type.",
    "Send application/json, or no body where none is needed.",
)
