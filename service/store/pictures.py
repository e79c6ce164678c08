"""Where the pictures of a study are."""

from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from service.store.tables import ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import State

PICTURES = "sc"  # the result kind whose frames are the pictures people see


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The object whose frames are the pictures of a study."""

    path: str
    sha256: str
    bytes: int


def picture_of(session: Session, key: str) -> Picture | None:
    """Pictures of the score that counts; None where there are none, or they were deleted."""
    current = (
        select(ScoreRow.id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            StudyRow.key == key,
            StudyRow.state == State.SCORED,
            or_(StudyRow.deleted_at.is_(None), ScoreRow.ended_at > StudyRow.deleted_at),
        )
        .order_by(RevisionRow.number.desc(), ScoreRow.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    row = session.execute(
        select(ResultRow.path, ResultRow.sha256, ResultRow.bytes).where(
            ResultRow.score_id == current, ResultRow.kind == PICTURES
        )
    ).first()
    return Picture(path=row.path, sha256=row.sha256, bytes=row.bytes) if row else None
