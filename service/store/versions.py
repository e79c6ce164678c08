"""Rows that a further row corrects: counted within their study, by version; the newest version holds."""

from typing import TypeVar

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session, aliased

from service.store.tables import FeedbackRow, ReferralRow

RowT = TypeVar("RowT", FeedbackRow, ReferralRow)


def is_newest_version(table: type[FeedbackRow] | type[ReferralRow]) -> ColumnElement[bool]:
    """Build the condition that nothing corrects a row."""
    later = aliased(table)
    return ~exists().where(
        later.study_id == table.study_id, later.number == table.number, later.version > table.version
    )


def newest(session: Session, table: type[RowT], study_id: int, number: int) -> RowT | None:
    """Return one of a study in its newest version; None where there is none of this number."""
    return session.scalar(
        select(table)
        .where(table.study_id == study_id, table.number == number)
        .order_by(table.version.desc())
        .limit(1)
    )
