"""What was given up: failed studies and undelivered results, each with its reason."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Select, case, cast, func, literal, select, union_all
from sqlalchemy.orm import Session

from service.store.paging import Page, Place, read_page
from service.store.tables import DeliveryRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import DeliveryStatus, State


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One thing that waits for a person.

    Attributes
    ----------
    key : str
        Of the study.
    what : str
        ``study``, or kind and destination of a result: ``sr to archive``.
    reason : str
        Code or words of why.
    attempts : int
    ended_at : datetime
    """

    key: str
    what: str
    reason: str
    attempts: int
    ended_at: datetime


def dead_letters(session: Session, place: Place) -> Page[DeadLetter]:
    """Everything that was given up and not taken up again, newest first.

    Raises
    ------
    CursorError
        If the cursor is not one of this listing.
    """
    given_up = union_all(_failed(), _undelivered()).subquery()
    ended = cast(func.extract("epoch", given_up.c.ended_at) * 1_000_000, BigInteger)
    numbers = [ended, given_up.c.source, given_up.c.id]
    query = select(
        given_up.c.key, given_up.c.what, given_up.c.reason, given_up.c.attempts, given_up.c.ended_at, *numbers
    )
    page = read_page(session, query, numbers, place)
    letters = tuple(
        DeadLetter(key=key, what=what, reason=reason, attempts=tried, ended_at=ended_at.astimezone(UTC))
        for key, what, reason, tried, ended_at, *_ in page.items
    )
    return Page(items=letters, next=page.next, previous=page.previous)


def _failed() -> Select[*tuple[Any, ...]]:
    attempts = (
        select(ScoreRow.attempts)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .where(RevisionRow.study_id == StudyRow.id)
        .order_by(ScoreRow.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    has_detail = StudyRow.detail != ""
    return select(
        literal(0).label("source"),
        StudyRow.id.label("id"),
        StudyRow.key.label("key"),
        literal("study").label("what"),
        case((has_detail, StudyRow.reason + ": " + StudyRow.detail), else_=StudyRow.reason).label("reason"),
        func.coalesce(attempts, 0).label("attempts"),
        StudyRow.ended_at.label("ended_at"),
    ).where(StudyRow.state == State.FAILED)


def _undelivered() -> Select[*tuple[Any, ...]]:
    return (
        select(
            literal(1).label("source"),
            DeliveryRow.id.label("id"),
            StudyRow.key.label("key"),
            (ResultRow.kind + " to " + DeliveryRow.destination).label("what"),
            func.coalesce(func.nullif(DeliveryRow.error, ""), DeliveryRow.fallback, "").label("reason"),
            DeliveryRow.attempts.label("attempts"),
            DeliveryRow.ended_at.label("ended_at"),
        )
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(DeliveryRow.status == DeliveryStatus.UNDELIVERED)
    )
