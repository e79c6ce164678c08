"""``/api/v1/referrals``: incidental findings, from report to closure; each change is an audited version."""

from datetime import UTC, date, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi import Path as InPath
from pydantic import Field

from service.access import Caller, Permission
from service.api.callers import Viewer, require
from service.api.dependencies import Key, PartsOf, refuse_unknown_parameters
from service.api.once import ActOf, Versions, tag
from service.api.reading import LARGEST, TEXT
from service.api.resources import LONGEST_CURSOR, MOST_ITEMS, Page
from service.api.schemas import Body
from service.store import looks, referrals
from service.store.paging import Place
from service.store.worklist import KEY_PATTERN
from service.study import ReferralState

router = APIRouter(
    prefix="/api/v1",
    tags=["referrals"],
    dependencies=[Depends(require(Permission.READ)), Depends(refuse_unknown_parameters)],
)
# What people have done is for all to see who see the list; a note, which may name a patient, is not.
shown = APIRouter(
    prefix="/api/v1",
    tags=["referrals"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)

Reader = Annotated[Caller, Depends(require(Permission.READ))]
Number = Annotated[int, InPath(ge=1, le=LARGEST, description="Of the referral, within its study.")]
Note = Annotated[str, Field(max_length=referrals.LONGEST_NOTE, pattern=TEXT)]
Due = Annotated[date, Field(description="Day by which it is to be closed.", ge=date(1970, 1, 1))]


class Report(Body):
    """What is to be looked into."""

    due: Due
    note: Note = ""


class Change(Body):
    """Where a referral stands now."""

    state: ReferralState
    due: Due
    note: Note = ""


class Referral(Body):
    """One version of a referral."""

    key: str = Field(description="Of the study.")
    number: int = Field(description="Within the study.")
    version: int = Field(description="As the ETag says it; each change is one more.")
    state: ReferralState
    due: date
    is_overdue: bool
    note: str = Field(description="Empty for a caller who may not read: it may name a patient.")
    by: str
    at: datetime


class Referrals(Page[Referral]):
    """A page of referrals, the last changed first."""


def today() -> date:
    """The day it is where this machine stands."""
    return datetime.now(UTC).astimezone().date()


def shown_to(caller: Caller, found: referrals.Referral) -> Referral:
    """Return a referral as a caller may see it."""
    return Referral(
        key=found.key,
        number=found.number,
        version=found.version,
        state=found.state,
        due=found.due,
        is_overdue=found.is_overdue(today()),
        note=found.note if caller.may(Permission.READ) else "",
        by=found.by,
        at=found.at,
    )


@shown.get("/referrals")
def list_referrals(
    parts: PartsOf,
    caller: Viewer,
    study: Annotated[str | None, Query(pattern=KEY_PATTERN, description="Key of a study.")] = None,
    state: ReferralState | None = None,
    overdue: Annotated[bool, Query(description="Only those that should have been closed.")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 100,
    cursor: Annotated[str | None, Query(max_length=LONGEST_CURSOR)] = None,
) -> Referrals:
    """Referrals of all studies, the last changed first."""
    place = Place(of=f"referrals {study} {state} {overdue}", limit=limit, cursor=cursor)
    with parts.store.transaction() as session:
        page = referrals.listed(
            session, place, study=study, state=state, overdue_at=today() if overdue else None
        )
        asked = {"study": study, "state": state, "overdue": overdue or None}
        filters = {name: value for name, value in asked.items() if value is not None}
        looks.queried(session, "referrals", filters, found=len(page.items), actor=caller.name)
    return Referrals(
        disclaimer=parts.disclaimer,
        items=[shown_to(caller, item) for item in page.items],
        next=page.next,
        previous=page.previous,
    )


@router.post("/studies/{key}/referrals", status_code=HTTPStatus.CREATED)
def report_referral(act: ActOf, key: Key, said: Report) -> Referral:
    """Write down that a study shows something to look into. It changes no score and no order."""
    made = act.once(
        Referral,
        lambda session: shown_to(
            act.caller,
            referrals.report(session, key, due=said.due, note=said.note, actor=act.caller.name),
        ),
    )
    tag(act.response, made.version)
    act.response.headers["Location"] = f"/api/v1/studies/{key}/referrals/{made.number}"
    return made


@shown.get("/studies/{key}/referrals")
def list_of_study(parts: PartsOf, caller: Viewer, key: Key) -> list[Referral]:
    """Referrals of a study as they stand, newest first."""
    with parts.store.transaction() as session:
        found = [shown_to(caller, one) for one in referrals.of_study(session, key)]
        looks.viewed(session, key, actor=caller.name)
    return found


@shown.get("/studies/{key}/referrals/{number}")
def read_referral(parts: PartsOf, caller: Viewer, response: Response, key: Key, number: Number) -> Referral:
    """One referral as it stands; the ETag names the version."""
    with parts.store.transaction() as session:
        found = referrals.one(session, key, number)
        looks.viewed(session, key, actor=caller.name)
    tag(response, found.version)
    return shown_to(caller, found)


@shown.get("/studies/{key}/referrals/{number}/history")
def read_history(parts: PartsOf, caller: Viewer, key: Key, number: Number) -> list[Referral]:
    """All versions of a referral, newest first."""
    with parts.store.transaction() as session:
        found = [shown_to(caller, one) for one in referrals.history(session, key, number)]
        looks.viewed(session, key, actor=caller.name)
    return found


@router.put("/studies/{key}/referrals/{number}")
def change_referral(
    parts: PartsOf,
    caller: Reader,
    response: Response,
    key: Key,
    number: Number,
    said: Change,
    versions: Versions,
) -> Referral:
    """Say where a referral stands now; what it was before stays on record."""
    with parts.store.transaction() as session:
        found = referrals.change(
            session,
            key,
            number,
            state=said.state,
            due=said.due,
            note=said.note,
            actor=caller.name,
            versions=versions,
        )
    tag(response, found.version)
    return shown_to(caller, found)
