"""The worklist's filters in a query string, for the API and the page alike."""

from dataclasses import asdict
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import AwareDatetime

from service.store.order import Sort, WorklistQuery
from service.study import Band, Priority, State

LONGEST = 200  # characters of a filter
NO_NUL = r"^[^\x00]*$"  # PostgreSQL holds no such text

BandName = Literal["unjudged", "uncalibrated", "ranked", "pending"]
PriorityName = Literal["stat", "urgent", "routine", "screening"]
Words = Annotated[str | None, Query(max_length=LONGEST, pattern=NO_NUL)]


def read_filters(
    band: Annotated[BandName | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
    modality: Words = None,
    sender: Words = None,
    priority: Annotated[PriorityName | None, Query()] = None,
    model: Words = None,
    received_from: Annotated[AwareDatetime | None, Query()] = None,
    received_to: Annotated[AwareDatetime | None, Query()] = None,
    percentile_below: Annotated[float | None, Query(gt=0, le=100)] = None,
    seen: Annotated[bool | None, Query()] = None,
    assigned_to: Words = None,
    text: Words = None,
    sort: Annotated[Sort, Query()] = Sort.TRIAGE,
) -> WorklistQuery:
    """Dependency: what a query string asks for."""
    return WorklistQuery(
        band=None if band is None else Band[band.upper()],
        state=state,
        modality=modality,
        sender=sender,
        priority=None if priority is None else Priority[priority.upper()],
        model=model,
        received_from=received_from,
        received_to=received_to,
        percentile_below=percentile_below,
        seen=seen,
        assigned_to=assigned_to,
        text=text,
        sort=sort,
    )


def asked(query: WorklistQuery) -> dict[str, Any]:
    """Return what a query asks for, as JSON values: what is not asked for is left out."""
    usual = asdict(WorklistQuery())
    return {name: _plain(value) for name, value in asdict(query).items() if value != usual[name]}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.name.lower() if isinstance(value, Enum) else value
