"""Who asks, and whether they may. Every route names the permission it needs; a test walks all of them.

A browser shows a session's cookie, another system a token in the Authorization header. With `VIGIL_ACCESS`
set to ``open`` nobody is asked, and the API listens on this machine alone: so the demonstration runs.
"""

import secrets
from collections.abc import Callable, Coroutine
from functools import lru_cache
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import Response

from service.access import Caller, Permission, Role
from service.api.dependencies import Parts, PartsOf
from service.api.problems import ProblemError
from service.store import people

COOKIE = "vigil_session"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
ANYBODY = Caller(name="anybody on this machine", role=Role.OPERATOR)
FORM = "application/x-www-form-urlencoded"


def caller_of(request: Request, parts: PartsOf) -> Caller | None:
    """Return who asks; None where nothing valid says so."""
    if parts.settings.access == "open":
        return ANYBODY
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    cookie = request.cookies.get(COOKIE)
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
        another page.
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
        if request.method not in SAFE and caller.csrf is not None:
            await _check_form(request, caller.csrf)
        request.state.caller = caller
        return caller

    return allowed


Viewer = Annotated[Caller, Depends(require(Permission.VIEW))]


def open_to_all() -> None:
    """Dependency of a route that asks nobody: it says so where others name their permission."""


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


def set_cookie(response: Response, secret: str, request: Request) -> None:
    """Give a browser its session. Scripts cannot read it and no other site's page can send it."""
    response.set_cookie(
        COOKIE,
        secret,
        max_age=int(people.SESSION_LIFE.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


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
