"""Does the order of the list do harm? It must delay no study past its first-come turn plus the age limit.

Compared are the order in which studies came and the order in which readers first saw them. A study counts as
*delayed* when it waited longer than the limit while one that came later, and that nobody had ordered as more
urgent, was seen before it. Where only what was ordered as more urgent overtook it, it counts as *behind
orders*: people decided that. Studies nobody has seen yet wait until now.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, case, func, literal, select
from sqlalchemy.orm import Session

from service.store.tables import StudyRow
from service.study import Priority

DAYS = 30.0  # how far back it is looked, where nothing else is said


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What the order of the list did to those who waited.

    Attributes
    ----------
    at, since : datetime
        Studies that came between them are compared.
    longest_unread_s : float
        The age limit.
    studies, seen : int
        Compared, and those among them that a reader has seen.
    overdue : int
        Seen by nobody, and waiting longer than the limit.
    delayed : int
        Waited longer than the limit while a later one was seen first. It must be 0.
    behind_orders : int
        The same, where every later one was ordered as more urgent.
    longest_delayed_s : float
        Longest wait among the delayed; 0 where there is none.
    """

    at: datetime
    since: datetime
    longest_unread_s: float
    studies: int
    seen: int
    overdue: int
    delayed: int
    behind_orders: int
    longest_delayed_s: float


def measure(session: Session, *, now: datetime, longest_unread_s: float, days: float = DAYS) -> Harm:
    """Compare the studies of the last days; one query over them.

    Parameters
    ----------
    session : Session
    now : datetime
    longest_unread_s : float
        Age limit, in seconds.
    days : float
    """
    since = now - timedelta(days=days)
    longest = timedelta(seconds=longest_unread_s)
    waited_until = func.coalesce(StudyRow.first_seen_at, literal(now))
    waited = (
        select(
            StudyRow.first_seen_at,
            StudyRow.priority,
            (waited_until - StudyRow.received_at).label("waited"),
            (_later_seen(Priority.STAT) < waited_until).label("is_overtaken"),
            (_later_as_urgent() < waited_until).label("is_overtaken_by_an_equal"),
        )
        .where(StudyRow.received_at >= since, StudyRow.received_at <= now)
        .subquery()
    )
    # Screening has no age limit: a cohort is read by its ranking, and most of it never.
    is_late = and_(waited.c.waited > longest, waited.c.priority > Priority.SCREENING)
    is_delayed = and_(is_late, func.coalesce(waited.c.is_overtaken_by_an_equal, False))
    is_behind = and_(is_late, func.coalesce(waited.c.is_overtaken, False), ~is_delayed)
    found = session.execute(
        select(
            func.count(),
            func.count(waited.c.first_seen_at),
            func.count().filter(is_late, waited.c.first_seen_at.is_(None)),
            func.count().filter(is_delayed),
            func.count().filter(is_behind),
            func.max(waited.c.waited).filter(is_delayed),
        ).select_from(waited)
    ).one()
    studies, seen, overdue, delayed, behind, longest_delayed = found
    return Harm(
        at=now,
        since=since,
        longest_unread_s=longest_unread_s,
        studies=studies,
        seen=seen,
        overdue=overdue,
        delayed=delayed,
        behind_orders=behind,
        longest_delayed_s=longest_delayed.total_seconds() if longest_delayed else 0.0,
    )


def _later_seen(priority: Priority) -> ColumnElement[datetime | None]:
    """When the first of those that came later, of at most a priority, was seen."""
    return (
        func.min(StudyRow.first_seen_at)
        .filter(StudyRow.priority <= priority)
        .over(
            order_by=StudyRow.received_at.desc(), groups=(None, -1)
        )  # what came in the same moment is not later
    )


def _later_as_urgent() -> ColumnElement[datetime | None]:
    """The same for those of at most the study's own priority."""
    return case({priority: _later_seen(priority) for priority in Priority}, value=StudyRow.priority)
