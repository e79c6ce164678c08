"""What was given up: failed studies and undelivered results, each with its reason."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

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


def dead_letters(session: Session, *, limit: int) -> tuple[DeadLetter, ...]:
    """Everything that was given up and not taken up again, newest first."""
    attempts = (
        select(ScoreRow.attempts)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .where(RevisionRow.study_id == StudyRow.id)
        .order_by(ScoreRow.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    failed = session.execute(
        select(StudyRow.key, StudyRow.reason, StudyRow.detail, StudyRow.ended_at, attempts).where(
            StudyRow.state == State.FAILED
        )
    )
    undelivered = session.execute(
        select(
            StudyRow.key,
            ResultRow.kind,
            DeliveryRow.destination,
            DeliveryRow.error,
            DeliveryRow.fallback,
            DeliveryRow.attempts,
            DeliveryRow.ended_at,
        )
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(DeliveryRow.status == DeliveryStatus.UNDELIVERED)
    )
    letters = [
        DeadLetter(
            key=key,
            what="study",
            reason=f"{reason}: {detail}" if detail else reason or "",
            attempts=tried,
            ended_at=ended_at.astimezone(UTC),
        )
        for key, reason, detail, ended_at, tried in failed
        if ended_at is not None
    ]
    letters += [
        DeadLetter(
            key=key,
            what=f"{kind} to {destination}",
            reason=error or fallback or "",
            attempts=tried,
            ended_at=ended_at.astimezone(UTC),
        )
        for key, kind, destination, error, fallback, tried, ended_at in undelivered
        if ended_at is not None
    ]
    return tuple(sorted(letters, key=lambda letter: letter.ended_at, reverse=True)[:limit])
