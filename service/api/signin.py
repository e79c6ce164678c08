"""Signing in and out, and the one-time link. Plain forms: they work without a script."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from service.api.callers import (
    COOKIE,
    Viewer,
    caller_of,
    drop_cookie,
    open_to_all,
    read_cookie,
    set_cookie,
)
from service.api.dependencies import Parts, PartsOf
from service.api.problems import ProblemError
from service.api.tries import address_of, count_address, note_right, note_wrong, require_tries
from service.errors import AccountError
from service.filters import NO_NUL
from service.store import people, sign_ins
from service.web.links import inside

Text = Annotated[str, Form(max_length=4 * people.LONGEST_PASSWORD, pattern=NO_NUL)]
LONGEST_TARGET = 2000  # a list with every filter and a cursor
Target = Annotated[str, Query(max_length=LONGEST_TARGET)]
Told = Annotated[str, Form(max_length=LONGEST_TARGET, pattern=NO_NUL)]
Page = Callable[..., HTMLResponse]
COUNTED = [Depends(open_to_all), Depends(count_address)]


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
    def show(request: Request, parts: PartsOf, to: Target = "/") -> Response:
        """The form; somebody who is signed in is sent on."""
        if caller_of(request, parts) is not None:
            return RedirectResponse(inside(to), HTTPStatus.SEE_OTHER)
        return form(page, parts, to=inside(to))

    @routes.post("/sign-in", dependencies=COUNTED)
    def enter(request: Request, parts: PartsOf, name: Text, password: Text, to: Told = "/") -> Response:
        """Begin a session."""
        _require_passwords(parts)
        require_tries(name, request)
        address = address_of(request)
        try:
            with parts.store.transaction() as session:
                secret = people.sign_in(session, name, password, address=address)
        except people.SignInError as error:
            note_wrong(name, request)
            with parts.store.transaction() as session:
                sign_ins.refused(session, reason="password", address=address, name=name)
            return form(page, parts, to=inside(to), problem=str(error))
        note_right(name, request)
        return begin(request, secret, inside(to))

    @routes.post("/sign-out")
    def leave(
        request: Request, parts: PartsOf, caller: Viewer, everywhere: Annotated[bool, Form()] = False
    ) -> Response:
        """End the session, here and on the server; with `everywhere` all sessions of the account."""
        with parts.store.transaction() as session:
            if everywhere:
                people.sign_out_everywhere(session, caller.name)
            people.sign_out(session, read_cookie(request, COOKIE) or "")
        # A page, not a redirect: our policy lets a form lead to this server alone.
        elsewhere = parts.provider.end_address() if parts.provider else None
        response = page("signedout.html", elsewhere=elsewhere, provider=parts.provider)
        drop_cookie(response, request)
        return response


def _invitations(routes: APIRouter, page: Page) -> None:
    @routes.get("/welcome", dependencies=COUNTED)
    def welcome(parts: PartsOf, code: Annotated[str, Query(max_length=100)]) -> Response:
        """The form of a one-time link. Looking at it does not use it up."""
        _require_passwords(parts)
        with parts.store.transaction() as session:
            is_invited = people.is_invited(session, code)
        if not is_invited:
            return form(page, parts, problem=people.InvitationError.__doc__)
        return _choose(page, code, problem=None, status=HTTPStatus.OK)

    @routes.post("/welcome", dependencies=COUNTED)
    def accept(request: Request, parts: PartsOf, code: Text, name: Text, password: Text) -> Response:
        """Use a one-time link up and begin a session."""
        _require_passwords(parts)
        try:
            with parts.store.transaction() as session:
                account = people.accept(session, code, name=name, password=password)
                secret = people.sign_in(session, account, password, address=address_of(request))
        except people.InvitationError as error:
            return form(page, parts, problem=str(error))
        except AccountError as error:
            return _choose(page, code, problem=str(error), status=HTTPStatus.UNAUTHORIZED)
        return begin(request, secret, "/")


def _require_passwords(parts: Parts) -> None:
    """Refuse local accounts, the begin of new ones included, where the provider's file says so."""
    if parts.provider is not None and not parts.provider.file.passwords:
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "no-passwords",
            "This server takes no passwords.",
            "Sign in at the identity provider.",
        )


def sign_in_first(request: Request) -> Response:
    """Answer of a page to somebody who is not signed in: the form, and back here afterwards."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if len(target) > LONGEST_TARGET:
        target = request.url.path
    return RedirectResponse(f"/sign-in?to={quote(target, safe='')}", HTTPStatus.SEE_OTHER)


def form(page: Page, parts: Parts, *, to: str = "/", problem: str | None = None, **more: Any) -> HTMLResponse:
    """Page where one signs in; with a problem it is refused."""
    status = HTTPStatus.OK if problem is None else HTTPStatus.UNAUTHORIZED
    return page("signin.html", to=to, problem=problem, provider=parts.provider, **({"status": status} | more))


def begin(request: Request, secret: str, target: str) -> Response:
    """Give a browser its session, and send it where it wanted to go."""
    response = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    set_cookie(response, request, secret)
    return response


def _choose(page: Page, code: str, *, problem: str | None, status: HTTPStatus) -> HTMLResponse:
    """Page where one chooses a name and a password."""
    return page("welcome.html", status=status, code=code, problem=problem, least=people.LEAST_PASSWORD)
