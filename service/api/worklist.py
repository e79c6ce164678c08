"""``GET /api/v1/worklist``: the list, in the order a person should look at it."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from service.access import Permission
from service.api import schemas
from service.api.callers import Viewer, require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.filters import asked, read_filters
from service.store import harm, looks
from service.store.order import WorklistQuery
from service.store.worklist import worklist

router = APIRouter(
    prefix="/api/v1",
    tags=["worklist"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)

MOST_ROWS = 1000
LONGEST_CURSOR = 1000  # characters
MOST_DAYS = 3660


@router.get("/worklist")
def read_worklist(
    parts: PartsOf,
    caller: Viewer,
    query: Annotated[WorklistQuery, Depends(read_filters)],
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 200,
    cursor: Annotated[str | None, Query(max_length=LONGEST_CURSOR)] = None,
) -> schemas.Worklist:
    """Studies: those a person must judge, then the ranked ones, then those that still wait."""
    with parts.store.transaction() as session:
        found = worklist(
            session,
            query,
            cursor=cursor,
            limit=limit,
            longest_unread_s=parts.settings.longest_unread_s,
            masking=parts.settings.masking,
        )
        looks.queried(session, "worklist", asked(query), found=found.total, actor=caller.name)
    return schemas.Worklist(
        disclaimer=parts.disclaimer,
        at=found.at,
        event=found.event,
        total=found.total,
        is_total_exact=found.is_total_exact,
        limit=limit,
        next=found.next,
        previous=found.previous,
        counts=found.counts,
        rows=[schemas.StudyRow.model_validate(row) for row in found.rows],
    )


@router.get("/worklist/harm")
def read_harm(parts: PartsOf, days: Annotated[float, Query(gt=0, le=MOST_DAYS)] = harm.DAYS) -> schemas.Harm:
    """Whether the order of the list delayed a study past its first-come turn plus the age limit."""
    with parts.store.transaction() as session:
        found = harm.measure(
            session,
            now=datetime.now(UTC),
            longest_unread_s=parts.settings.longest_unread_s,
            days=days,
        )
    return schemas.Harm.model_validate(found)
