"""The page of referrals, and the forms that report and change one. Plain forms, no script."""

from collections.abc import Callable
from datetime import date
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from service.access import Permission
from service.api.callers import Viewer, require
from service.api.dependencies import Key, PartsOf, refuse_unknown_parameters
from service.api.reading import LARGEST, TEXT
from service.api.referrals import Number, Reader, today
from service.store import looks, referrals
from service.study import REFERRAL_MOVES, ReferralState
from service.web.links import inside

MOST_SHOWN = 500

Page = Callable[..., HTMLResponse]
Note = Annotated[str, Form(max_length=referrals.LONGEST_NOTE, pattern=TEXT)]
Due = Annotated[date, Form(ge=date(1970, 1, 1))]
Back = Annotated[str, Form(max_length=1000)]


def router(page: Page) -> APIRouter:
    """Routes of the page.

    Parameters
    ----------
    page : callable
        Renders a template by name.
    """
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

    @routes.get("/referrals", dependencies=[Depends(refuse_unknown_parameters)])
    def show(parts: PartsOf, caller: Viewer) -> HTMLResponse:
        """Open referrals, the longest due first."""
        with parts.store.transaction() as session:
            found = referrals.to_do(session, limit=MOST_SHOWN)
            looks.queried(session, "referrals", {}, found=len(found), actor=caller.name)
        return page(
            "referrals.html",
            caller=caller,
            csrf=caller.csrf,
            found=found,
            today=today(),
            may_read=caller.may(Permission.READ),
            moves=moves,
            most=MOST_SHOWN,
        )

    @routes.post("/studies/{key}/referrals", dependencies=[Depends(require(Permission.READ))])
    def report(
        parts: PartsOf, caller: Reader, key: Key, due: Due, note: Note = "", back: Back = "/referrals"
    ) -> Response:
        """Write down that a study shows something to look into."""
        with parts.store.transaction() as session:
            referrals.report(session, key, due=due, note=note, actor=caller.name)
        return RedirectResponse(inside(back), HTTPStatus.SEE_OTHER)

    @routes.post("/referrals/{key}/{number}", dependencies=[Depends(require(Permission.READ))])
    def change(
        parts: PartsOf,
        caller: Reader,
        key: Key,
        number: Number,
        state: Annotated[ReferralState, Form()],
        due: Due,
        version: Annotated[int, Form(ge=1, le=LARGEST)],
        note: Note = "",
    ) -> Response:
        """Say where a referral stands now."""
        with parts.store.transaction() as session:
            referrals.change(
                session,
                key,
                number,
                state=state,
                due=due,
                note=note,
                actor=caller.name,
                versions=frozenset({version}),
            )
        return RedirectResponse("/referrals", HTTPStatus.SEE_OTHER)

    return routes


def moves(state: ReferralState) -> list[ReferralState]:
    """Where a referral may go, or stay, in the order of its way."""
    return [one for one in ReferralState if one is state or one in REFERRAL_MOVES[state]]
