"""Single sign-on: to the identity provider, and back with its word."""

import secrets
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from service.api.callers import drop_cookie, read_cookie, set_cookie
from service.api.dependencies import Parts, PartsOf
from service.api.problems import ProblemError
from service.api.signin import COUNTED, Page, Target, begin, form
from service.api.tries import address_of
from service.provider import RETURN_PATH, Errand, Provider, ProviderAwayError, ProviderError
from service.store import people, sign_ins
from service.web.links import inside

ERRAND = "vigil_errand"  # ties the way back to the browser that set out
LONGEST = 2048  # characters of a code or a state
STRANGE = "That was not the end of a sign-in that this browser began. Begin again."

Given = Annotated[str, Query(max_length=LONGEST)]


def router(page: Page) -> APIRouter:
    """Routes of single sign-on.

    Parameters
    ----------
    page : callable
        Renders a template by name.
    """
    routes = APIRouter(include_in_schema=False)

    @routes.get("/sign-in/provider", dependencies=COUNTED)
    def leave(request: Request, parts: PartsOf, to: Target = "/") -> Response:
        """To the provider."""
        provider = _provider(parts)
        errand, browser = Errand.begin(inside(to)), secrets.token_urlsafe(32)
        try:
            address = provider.start(errand)
        except ProviderError as error:
            return _refuse(request, parts, page, error)
        with parts.store.transaction() as session:
            sign_ins.begin(session, errand, browser=browser)
        response = RedirectResponse(address, HTTPStatus.SEE_OTHER)
        set_cookie(response, request, browser, name=ERRAND, life=sign_ins.LIFE)
        return response

    @routes.get(RETURN_PATH, dependencies=COUNTED)
    def come_back(
        request: Request,
        parts: PartsOf,
        state: Given = "",
        code: Given = "",
        iss: Annotated[str | None, Query(max_length=LONGEST)] = None,
    ) -> Response:
        """Back from the provider, with a code or without. What else it says of an error is not repeated."""
        provider, address = _provider(parts), address_of(request)
        with parts.store.transaction() as session:
            errand = sign_ins.take(session, state, browser=read_cookie(request, ERRAND) or "")
        if errand is None:
            return _refuse(request, parts, page, ProviderError(STRANGE))
        try:
            vouched = provider.finish(errand, code, issuer=iss)
            with parts.store.transaction() as session:
                secret = people.sign_in_subject(
                    session, vouched.subject, name=vouched.name, role=vouched.role, address=address
                )
        except (ProviderError, people.SignInError) as error:
            return _refuse(request, parts, page, error)
        response = begin(request, secret, errand.target)
        drop_cookie(response, request, ERRAND)
        return response

    return routes


def _provider(parts: Parts) -> Provider:
    if parts.provider is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            "no-provider",
            "This server knows no identity provider.",
            "Sign in with a local account, or set VIGIL_OIDC.",
        )
    return parts.provider


def _refuse(
    request: Request, parts: Parts, page: Page, error: ProviderError | people.SignInError
) -> HTMLResponse:
    """Record a sign-in that failed, and say so."""
    reason = error.code if isinstance(error, ProviderError) else "account_ended"
    with parts.store.transaction() as session:
        sign_ins.refused(session, reason=reason, address=address_of(request))
    is_away = isinstance(error, ProviderAwayError)
    status = HTTPStatus.SERVICE_UNAVAILABLE if is_away else HTTPStatus.UNAUTHORIZED
    response = form(page, parts, problem=str(error), status=status)
    drop_cookie(response, request, ERRAND)
    return response
