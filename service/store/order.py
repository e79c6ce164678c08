"""In which order studies stand on the list, and which of them a question is about."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, func, or_

from service.store.tables import StudyRow
from service.study import Band, Priority, State


class Sort(StrEnum):
    """Order within a band; the bands themselves never change places (I7)."""

    TRIAGE = "triage"  # STAT, overdue, urgent, ..., by percentile; what a reader has seen is last
    PERCENTILE = "percentile"  # most unusual first, whatever the priority
    OLDEST = "received"  # first come, first
    NEWEST = "-received"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistQuery:
    """Which studies, in which order. What is None does not narrow.

    Attributes
    ----------
    band, state, priority
        Where a study stands.
    modality, sender : str or None
        As sent, in full.
    model : str or None
        Name of the model whose score counts.
    received_from, received_to : datetime or None
        From the first, before the second.
    percentile_below : float or None
        Ranked studies below this percentile alone.
    seen : bool or None
        Whether a reader has seen it as it stands.
    assigned_to : str or None
        Name of the account that has claimed it; empty: nobody.
    text : str or None
        Part of description, modality or sender, in any case.
    sort : Sort
    """

    band: Band | None = None
    state: State | None = None
    modality: str | None = None
    sender: str | None = None
    priority: Priority | None = None
    model: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None
    percentile_below: float | None = None
    seen: bool | None = None
    assigned_to: str | None = None
    text: str | None = None
    sort: Sort = Sort.TRIAGE


EVERYTHING = WorklistQuery()


def conditions(query: WorklistQuery) -> list[ColumnElement[bool]]:
    """Build what a study must fulfil to be listed."""
    study = StudyRow
    wanted: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (study.state, query.state),
            (study.modality, query.modality),
            (study.sender, query.sender),
            (study.priority, query.priority),
        )
        if value is not None
    ]
    if query.received_from is not None:
        wanted.append(study.received_at >= query.received_from)
    if query.received_to is not None:
        wanted.append(study.received_at < query.received_to)
    if query.seen is not None:
        wanted.append(study.seen_at.is_not(None) if query.seen else study.seen_at.is_(None))
    if query.assigned_to is not None:
        wanted.append(func.coalesce(study.assigned_to, "") == query.assigned_to)
    if query.text is not None:
        wanted.append(
            or_(
                *(
                    column.icontains(query.text, autoescape=True)
                    for column in (study.description, study.modality, study.sender)
                )
            )
        )
    return wanted
