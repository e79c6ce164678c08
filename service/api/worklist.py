"""``GET /api/v1/worklist``: the list, in the order a person should look at it."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from service.access import Permission
from service.api import schemas
from service.api.callers import Viewer, require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.store import looks
from service.store.worklist import worklist

router = APIRouter(
    prefix="/api/v1",
    tags=["worklist"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)

MOST_ROWS = 1000


@router.get("/worklist")
def read_worklist(
    parts: PartsOf,
    caller: Viewer,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 200,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> schemas.Worklist:
    """Studies: those a person must judge, then the ranked ones, then those that still wait."""
    with parts.store.transaction() as session:
        found = worklist(session, limit=limit, offset=offset)
        looks.queried(session, "worklist", {}, found=found.total, actor=caller.name)
    return schemas.Worklist(
        disclaimer=parts.disclaimer,
        at=datetime.now(UTC),
        total=found.total,
        limit=limit,
        offset=offset,
        counts=found.counts,
        rows=[schemas.StudyRow.model_validate(row) for row in found.rows],
    )
