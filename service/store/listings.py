"""Scores, jobs, deliveries and feedback, as pages for a screen or another system."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Integer,
    Text,
    and_,
    case,
    cast,
    column,
    literal_column,
    select,
    table,
)
from sqlalchemy.orm import Session

from service.store.paging import Page, Place, read_page
from service.store.rows import Assessment, Model, assessment_of, model_of
from service.store.tables import DeliveryRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import DeliveryStatus, Pool, State


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedScore:
    """One model on one revision of one study.

    Attributes
    ----------
    id : int
    key : str
        Of the study.
    revision : int
    is_current : bool
        The score that counts: the newest of the newest revision.
    assessment : Assessment or None
        Only of a scored one.
    """

    id: int
    key: str
    revision: int
    is_current: bool
    state: State
    reason: str | None
    detail: str
    attempts: int
    run_at: datetime
    ended_at: datetime | None
    model: Model
    assessment: Assessment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """One piece of work in the queue.

    Attributes
    ----------
    id : int
    pool : Pool
    is_running : bool
    priority : int
        Higher runs first; age raises it.
    due_at : datetime or None
        It waits until then; None: it is due.
    key : str
        Of the study.
    attempts : int
        Those that were begun.
    kind, destination : str or None
        Of a delivery.
    """

    id: int
    pool: Pool
    is_running: bool
    priority: int
    due_at: datetime | None
    key: str
    attempts: int
    kind: str | None
    destination: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDelivery:
    """One result on its way to one destination; the rest as in `service.store.detail.Delivery`."""

    id: int
    key: str
    kind: str
    destination: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime
    answer: int | None
    error: str
    ended_at: datetime | None
    confirmed_by: str | None
    fallback: str | None


_JOBS = table(
    "procrastinate_jobs",
    column("id", BigInteger),
    column("queue_name", Text),
    column("status", Text),
    column("priority", Integer),
    column("scheduled_at", DateTime(timezone=True)),
)
# Values of an enumeration in PostgreSQL, which takes no text for them.
_WAITING, _RUNNING = literal_column("'todo'", Text), literal_column("'doing'", Text)
_ROW_ID = cast(literal_column("procrastinate_jobs.args->>'row_id'"), BigInteger)


def scores(
    session: Session,
    place: Place,
    *,
    study: str | None = None,
    state: State | None = None,
    model: str | None = None,
) -> Page[ListedScore]:
    """Scores, newest first.

    Raises
    ------
    CursorError
        If the cursor is not one of this listing.
    """
    query = (
        select(ScoreRow, RevisionRow.number, StudyRow.key, StudyRow.score_id, ScoreRow.id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            *_equal((StudyRow.key, study), (ScoreRow.state, state), (ScoreRow.model_hash, model)),
        )
    )
    page = read_page(session, query, [ScoreRow.id], place)
    items = tuple(
        ListedScore(
            id=row.id,
            key=key,
            revision=revision,
            is_current=row.id == current,
            state=row.state,
            reason=row.reason,
            detail=row.detail,
            attempts=row.attempts,
            run_at=row.run_at.astimezone(UTC),
            ended_at=_utc(row.ended_at),
            model=model_of(row),
            assessment=assessment_of(row),
        )
        for row, revision, key, current, _ in page.items
    )
    return Page(items=items, next=page.next, previous=page.previous)


def jobs(
    session: Session, place: Place, *, pool: Pool | None = None, is_running: bool | None = None
) -> Page[ListedJob]:
    """Jobs that wait or run, newest first.

    Raises
    ------
    CursorError
        If the cursor is not one of this listing.
    """
    is_infer = _JOBS.c.queue_name == Pool.INFER.value
    score_id = case((is_infer, _ROW_ID), else_=ResultRow.score_id)
    statuses = {None: (_WAITING, _RUNNING), True: (_RUNNING,), False: (_WAITING,)}[is_running]
    query = (
        select(
            _JOBS.c.queue_name,
            _JOBS.c.status,
            _JOBS.c.priority,
            _JOBS.c.scheduled_at,
            StudyRow.key,
            case((is_infer, ScoreRow.attempts), else_=DeliveryRow.attempts),
            ResultRow.kind,
            DeliveryRow.destination,
            _JOBS.c.id,
        )
        .select_from(_JOBS)
        .outerjoin(DeliveryRow, and_(_JOBS.c.queue_name == Pool.DELIVER.value, DeliveryRow.id == _ROW_ID))
        .outerjoin(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(ScoreRow, ScoreRow.id == score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            _JOBS.c.status.in_(statuses),
            _JOBS.c.queue_name.in_((Pool.INFER.value, Pool.DELIVER.value)),
            *_equal((_JOBS.c.queue_name, pool and pool.value)),
        )
    )
    page = read_page(session, query, [_JOBS.c.id], place)
    items = tuple(
        ListedJob(
            id=job_id,
            pool=Pool(queue),
            is_running=status == "doing",
            priority=priority,
            due_at=_utc(due_at),
            key=key,
            attempts=attempts,
            kind=kind,
            destination=destination,
        )
        for queue, status, priority, due_at, key, attempts, kind, destination, job_id in page.items
    )
    return Page(items=items, next=page.next, previous=page.previous)


def deliveries(
    session: Session,
    place: Place,
    *,
    study: str | None = None,
    destination: str | None = None,
    status: DeliveryStatus | None = None,
) -> Page[ListedDelivery]:
    """Deliveries, newest first.

    Raises
    ------
    CursorError
        If the cursor is not one of this listing.
    """
    query = (
        select(DeliveryRow, ResultRow.kind, StudyRow.key, DeliveryRow.id)
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            *_equal(
                (StudyRow.key, study),
                (DeliveryRow.destination, destination),
                (DeliveryRow.status, status),
            )
        )
    )
    page = read_page(session, query, [DeliveryRow.id], place)
    items = tuple(
        ListedDelivery(
            id=row.id,
            key=key,
            kind=kind,
            destination=row.destination,
            status=row.status,
            attempts=row.attempts,
            next_attempt_at=row.next_attempt_at.astimezone(UTC),
            answer=row.answer,
            error=row.error,
            ended_at=_utc(row.ended_at),
            confirmed_by=row.confirmed_by,
            fallback=row.fallback,
        )
        for row, kind, key, _ in page.items
    )
    return Page(items=items, next=page.next, previous=page.previous)


def _equal(*pairs: tuple[Any, object]) -> list[ColumnElement[bool]]:
    """Build the conditions of the filters that are set."""
    return [column == value for column, value in pairs if value is not None]


def _utc(at: datetime | None) -> datetime | None:
    return at.astimezone(UTC) if at else None
