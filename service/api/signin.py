"""Signing in and out, and the one-time link. Plain forms: they work without a script."""

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from service.access import Permission
from service.api.callers import COOKIE, caller_of, open_to_all, require, set_cookie
from service.api.dependencies import PartsOf
from service.api.problems import too_many_requests
from service.errors import AccountError
from service.store import people

SEE_OTHER = 303
REFUSED = 401
TRIES = RateLimitItemPerMinute(10)  # of one address; argon2 makes a try expensive for us as well

_TRIES = MovingWindowRateLimiter(MemoryStorage())

Text = Annotated[str, Form(max_length=4 * people.LONGEST_PASSWORD)]
Page = Callable[..., HTMLResponse]


def router(page: Page) -> APIRouter:
    """Routes of signing in.

    Parameters
    ----------
    page : callable
        Renders a template by name: ``page("signin.html", status=200, **context)``.
    """
    routes = APIRouter(include_in_schema=False)
    _sessions(routes, page)
    _invitations(routes, page)
    return routes


def _sessions(routes: APIRouter, page: Page) -> None:
    @routes.get("/sign-in", dependencies=[Depends(open_to_all)])
    def show(request: Request, parts: PartsOf, to: Annotated[str, Query(max_length=300)] = "/") -> Response:
        """The form; somebody who is signed in is sent on."""
        if caller_of(request, parts) is not None:
            return RedirectResponse(_inside(to), SEE_OTHER)
        return page("signin.html", to=_inside(to), problem=None)

    @routes.post("/sign-in", dependencies=[Depends(open_to_all), Depends(_count)])
    def enter(request: Request, parts: PartsOf, name: Text, password: Text, to: Text = "/") -> Response:
        """Begin a session."""
        try:
            with parts.store.transaction() as session:
                secret = people.sign_in(session, name, password)
        except people.SignInError as error:
            return page("signin.html", status=REFUSED, to=_inside(to), problem=str(error))
        return _enter(request, secret, _inside(to))

    @routes.post("/sign-out", dependencies=[Depends(require(Permission.VIEW))])
    def leave(request: Request, parts: PartsOf) -> Response:
        """End the session, here and on the server."""
        with parts.store.transaction() as session:
            people.sign_out(session, request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/sign-in", SEE_OTHER)
        response.delete_cookie(COOKIE)
        return response


def _invitations(routes: APIRouter, page: Page) -> None:
    @routes.get("/welcome", dependencies=[Depends(open_to_all), Depends(_count)])
    def welcome(parts: PartsOf, code: Annotated[str, Query(max_length=100)]) -> Response:
        """The form of a one-time link. Looking at it does not use it up."""
        with parts.store.transaction() as session:
            is_invited = people.is_invited(session, code)
        if not is_invited:
            return page("signin.html", status=REFUSED, to="/", problem=people.InvitationError.__doc__)
        return page("welcome.html", code=code, problem=None, least=people.LEAST_PASSWORD)

    @routes.post("/welcome", dependencies=[Depends(open_to_all), Depends(_count)])
    def accept(request: Request, parts: PartsOf, code: Text, name: Text, password: Text) -> Response:
        """Use a one-time link up and begin a session."""
        try:
            with parts.store.transaction() as session:
                account = people.accept(session, code, name=name, password=password)
                secret = people.sign_in(session, account, password)
        except people.InvitationError as error:
            return page("signin.html", status=REFUSED, to="/", problem=str(error))
        except AccountError as error:
            return page(
                "welcome.html", status=REFUSED, code=code, problem=str(error), least=people.LEAST_PASSWORD
            )
        return _enter(request, secret, "/")


def sign_in_first(request: Request) -> Response:
    """Answer of a page to somebody who is not signed in: the form, and back here afterwards."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?to={quote(target, safe='')}", SEE_OTHER)


def _enter(request: Request, secret: str, target: str) -> Response:
    response = RedirectResponse(target, SEE_OTHER)
    set_cookie(response, secret, request)
    return response


def _inside(target: str) -> str:
    """Return a path of ours; whatever leads elsewhere leads to the list."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_path else "/"


def _count(request: Request) -> None:
    """Let one address try a few times a minute."""
    address = request.client.host if request.client else ""
    if not _TRIES.hit(TRIES, address):
        raise too_many_requests(60)


def forget_tries() -> None:
    """Start counting anew."""
    _TRIES.storage.reset()
