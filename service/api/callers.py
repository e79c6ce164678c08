"""Who asks, and whether they may. Every route names the permission it needs; a test walks all of them.

A browser shows a session's cookie, another system a token in the Authorization header. With `VIGIL_ACCESS`
set to ``open`` nobody is asked, and the API listens on this machine alone: so the demonstration runs.
"""

import secrets
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import lru_cache
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import Response

from service.access import Caller, Permission, Role
from service.api.dependencies import Parts, PartsOf
from service.api.problems import ProblemError
from service.api.tries import count_change
from service.store import people
from service.store.people import SESSION_LIFE

COOKIE = "vigil_session"
BOUND = "__Host-"  # a browser takes such a cookie by https alone, from this host alone, for all of its paths
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FORWARDED = ("X-Forwarded-For", "Forwarded")
ANYBODY = Caller(name="anybody on this machine", role=Role.OPERATOR)
FORM = "application/x-www-form-urlencoded"


def caller_of(request: Request, parts: PartsOf) -> Caller | None:
    """Return who asks; None where nothing valid says so."""
    if parts.settings.access == "open":
        return ANYBODY
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    cookie = read_cookie(request, COOKIE)
    if scheme.lower() == "bearer":
        with parts.store.transaction() as session:
            return people.caller_of_token(session, token.strip())
    if cookie:
        with parts.store.transaction() as session:
            return people.caller_of_session(session, cookie)
    return None


CallerOf = Annotated[Caller | None, Depends(caller_of)]


@lru_cache
def require(permission: Permission) -> Callable[..., Coroutine[Any, Any, Caller]]:
    """Dependency of a route that needs a permission; it hands the route who asks.

    Asynchronous for one reason: a form's token is in its body.

    Raises
    ------
    ProblemError
        401 where nobody valid asks, 403 where the role does not grant it or the request may come from
        another page, 429 where somebody changes things faster than a person can.
    """

    async def allowed(request: Request, caller: CallerOf) -> Caller:
        if caller is None:
            raise _unknown()
        if not caller.may(permission):
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "not-allowed",
                f"The role {caller.role.value} may not do this.",
                "Ask an administrator for a role that may.",
            )
        if request.method not in SAFE:
            if permission is not Permission.SEND:  # instances come as fast as they come
                count_change(caller)
            if caller.csrf is not None:
                await _check_form(request, caller.csrf)
        request.state.caller = caller
        return caller

    return allowed


Viewer = Annotated[Caller, Depends(require(Permission.VIEW))]


async def open_to_all() -> None:
    """Dependency of a route that asks nobody: it says so where others name their permission."""


def ask_directly(request: Request) -> None:
    """Dependency of a route that asks for no name, and is for whoever looks after the process alone.

    Every proxy that carries people's requests says for whom (RFC 7239, or the header before it).

    Raises
    ------
    ProblemError
        404 where a proxy has forwarded the request.
    """
    if any(header in request.headers for header in FORWARDED):
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            "behind-a-proxy",
            "This is not answered to anybody behind a proxy.",
            "Ask the process itself, at its own address and port.",
        )


async def _check_form(request: Request, expected: str) -> None:
    """Refuse what another page may have made this browser send."""
    given = request.headers.get(CSRF_HEADER, "")
    if not given and request.headers.get("content-type", "").partition(";")[0] == FORM:
        given = str((await request.form()).get(CSRF_FIELD, ""))
    if not secrets.compare_digest(given.encode(), expected.encode()):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "no-csrf-token",
            "The request does not carry its session's token.",
            f"Load the page again, or send the session's token as {CSRF_HEADER}.",
        )


def set_cookie(
    response: Response, request: Request, secret: str, *, name: str = COOKIE, life: timedelta = SESSION_LIFE
) -> None:
    """Give a browser something to keep. Scripts cannot read it, and no other site's form can send it.

    Lax, not strict: a link in the archive's viewer must find its reader signed in. Whatever changes anything
    is no GET, and carries its session's token.
    """
    response.set_cookie(
        _bound(request, name),
        secret,
        max_age=int(life.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=_is_safe(request),
    )


def read_cookie(request: Request, name: str) -> str | None:
    """Return what a browser kept for us."""
    return request.cookies.get(_bound(request, name))


def drop_cookie(response: Response, request: Request, name: str = COOKIE) -> None:
    """Have a browser forget."""
    response.delete_cookie(_bound(request, name), secure=_is_safe(request), httponly=True, samesite="lax")


def _bound(request: Request, name: str) -> str:
    return f"{BOUND}{name}" if _is_safe(request) else name


def _is_safe(request: Request) -> bool:
    return request.url.scheme in {"https", "wss"}


def is_open(parts: Parts) -> bool:
    """Whether nobody is asked who they are."""
    return parts.settings.access == "open"


def _unknown() -> ProblemError:
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "not-signed-in",
        "Nobody is signed in, or the session has ended.",
        "Sign in at /sign-in, or send a token as `Authorization: Bearer`.",
        {"WWW-Authenticate": "Bearer"},
    )
