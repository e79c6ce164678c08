"""``GET /api/v1/cohorts``: which cohorts are screened, and how far each of them is."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi import Path as InPath
from pydantic import Field
from sqlalchemy.orm import Session

from service.access import Permission
from service.api.callers import Viewer, require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.reading import LARGEST
from service.api.schemas import Body
from service.store import cohorts, looks
from service.study import CohortState

router = APIRouter(
    prefix="/api/v1/cohorts",
    tags=["cohorts"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)


class Cohort(Body):
    """A cohort and how far it is. Its ranking is written by `vigil cohorts report`."""

    id: int
    name: str
    state: CohortState
    q: float = Field(description="False-discovery rate of its list.")
    created_at: datetime
    ended_at: datetime | None
    studies: int = Field(description="Those that could not be had among them.")
    queued: int = Field(description="Taken in; the ended ones among them.")
    scored: int
    not_assessable: int
    failed: int
    left_out: int = Field(description="Could not be had.")


@router.get("")
def list_cohorts(parts: PartsOf, caller: Viewer) -> list[Cohort]:
    """All cohorts, newest first."""
    with parts.store.transaction() as session:
        found = [_shown(session, one) for one in cohorts.every(session)]
        looks.queried(session, "cohorts", {}, found=len(found), actor=caller.name)
    return found


@router.get("/{number}")
def read_cohort(parts: PartsOf, caller: Viewer, number: Annotated[int, InPath(ge=1, le=LARGEST)]) -> Cohort:
    """One cohort."""
    with parts.store.transaction() as session:
        found = _shown(session, cohorts.one(session, number))
        looks.queried(session, "cohorts", {}, found=1, actor=caller.name)
    return found


def _shown(session: Session, one: cohorts.Cohort) -> Cohort:
    progress = cohorts.progress(session, one.id)
    return Cohort(
        id=one.id,
        name=one.name,
        state=one.state,
        q=one.q,
        created_at=one.created_at,
        ended_at=one.ended_at,
        studies=progress.members,
        queued=progress.queued,
        left_out=progress.left_out,
        **{state.value: count for state, count in progress.ended.items()},
    )
