"""Who is told of which work items, and what there is to tell (PS3.4 CC.2.3, CC.2.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, delete, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.store import audit
from service.store.tables import StudyRow, SubscriptionRow, WorkitemEventRow, WorkitemRow
from service.store.workitems import UnknownWorkitemError

MOST_EVENTS = 500  # handed over at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing to tell.

    Attributes
    ----------
    id : int
        Later ones are larger.
    workitem_uid : str
    kind : int
        Event type id.
    detail : mapping
    at : datetime
    """

    id: int
    workitem_uid: str
    kind: int
    detail: Mapping[str, Any]
    at: datetime


def subscribe(session: Session, subscriber: str, uid: str | None, *, actor: str) -> None:
    """Have somebody told of a work item, or of all; twice is once.

    Raises
    ------
    UnknownWorkitemError
        If there is none.
    """
    workitem_id = _id_of(session, uid)
    session.execute(
        insert(SubscriptionRow)
        .values(subscriber=subscriber, workitem_id=workitem_id, made_by=actor)
        .on_conflict_do_nothing()
    )
    _write_down(session, "workitem.subscribed", uid, actor=actor)


def unsubscribe(session: Session, subscriber: str, uid: str | None, *, actor: str) -> None:
    """Have somebody told no more; of all means of single ones too.

    Raises
    ------
    UnknownWorkitemError
        If there is none.
    """
    workitem_id = _id_of(session, uid)
    statement = delete(SubscriptionRow).where(SubscriptionRow.subscriber == subscriber)
    if workitem_id is not None:
        statement = statement.where(SubscriptionRow.workitem_id == workitem_id)
    session.execute(statement)
    _write_down(session, "workitem.unsubscribed", uid, actor=actor)


def suspend(session: Session, subscriber: str, *, actor: str) -> None:
    """Have somebody told of no new work items; the single ones stay."""
    session.execute(
        delete(SubscriptionRow).where(
            SubscriptionRow.subscriber == subscriber, SubscriptionRow.workitem_id.is_(None)
        )
    )
    _write_down(session, "workitem.unsubscribed", None, actor=actor)


def newest(session: Session) -> int:
    """Id of the newest event."""
    return session.scalar(select(func.max(WorkitemEventRow.id))) or 0


def events(session: Session, subscriber: str, *, after: int) -> tuple[Event, ...]:
    """What there is to tell somebody, in order."""
    is_told = exists().where(
        and_(
            SubscriptionRow.subscriber == subscriber,
            or_(
                SubscriptionRow.workitem_id.is_(None),
                SubscriptionRow.workitem_id == WorkitemEventRow.workitem_id,
            ),
        )
    )
    rows = session.execute(
        select(WorkitemEventRow, WorkitemRow.uid)
        .join(WorkitemRow, WorkitemRow.id == WorkitemEventRow.workitem_id)
        .where(WorkitemEventRow.id > after, is_told)
        .order_by(WorkitemEventRow.id)
        .limit(MOST_EVENTS)
    )
    return tuple(
        Event(id=row.id, workitem_uid=uid, kind=row.kind, detail=row.detail, at=row.at.astimezone(UTC))
        for row, uid in rows
    )


def _id_of(session: Session, uid: str | None) -> int | None:
    if uid is None:
        return None
    workitem_id = session.scalar(select(WorkitemRow.id).where(WorkitemRow.uid == uid))
    if workitem_id is None:
        raise UnknownWorkitemError(UnknownWorkitemError.__doc__)
    return workitem_id


def _write_down(session: Session, action: str, uid: str | None, *, actor: str) -> None:
    key = session.scalar(
        select(StudyRow.key)
        .join(WorkitemRow, WorkitemRow.study_id == StudyRow.id)
        .where(WorkitemRow.uid == uid)
    )
    audit.append(session, action, actor=actor, study_key=key)
