"""What a person may do to a study or a destination, as rows: cancel, park, let go."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.store import deliveries, packs, studies, supersession
from service.store.tables import (
    ParkedDestinationRow,
    RevisionRow,
    ScoreRow,
    StudyRow,
)
from service.study import CANCELLED, DeliveryStatus, State, move


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """Rows that an order changed, or that wait again because of it."""

    score_ids: tuple[int, ...]
    delivery_ids: tuple[int, ...]
    priority: int
    packs: int = 0


def cancel(session: Session, key: str) -> Touched:
    """End what of a study waits: queued scores as *failed*, deliveries as *undelivered*, both saying why.

    A revision that waits for its pack has no score yet: it is ended by who would have made the pack.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    study = studies.locked(session, key)
    now = datetime.now(UTC)
    scores = _queued(session, study)
    for score in scores:
        score.state, score.reason, score.ended_at = State.FAILED, CANCELLED, now
        session.flush()
        supersession.want_retraction(session, score)
    if study.state is State.QUEUED:
        study.state = move(study.state, State.FAILED)
        study.reason, study.detail, study.ended_at = CANCELLED, "", now
    sent = deliveries.locked_of(session, study, DeliveryStatus.WAITING)
    for delivery in sent:
        delivery.status, delivery.error, delivery.ended_at = DeliveryStatus.UNDELIVERED, CANCELLED, now
    return Touched(
        score_ids=tuple(score.id for score in scores),
        delivery_ids=tuple(delivery.id for delivery in sent),
        priority=study.priority,
        packs=len(packs.cancel(session, study.id)),
    )


def park(session: Session, key: str) -> Touched | None:
    """Put a study aside, in whatever state it is; None where it was aside before.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    study = studies.locked(session, key)
    if study.parked_at is not None:
        return None
    study.parked_at = datetime.now(UTC)
    return _scores_of(session, study)


def unpark(session: Session, key: str) -> Touched | None:
    """Let a parked study go on; None where it was not parked.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    study = studies.locked(session, key)
    if study.parked_at is None:
        return None
    study.parked_at = None
    return _scores_of(session, study)


def park_destination(session: Session, name: str) -> bool:
    """Let the deliveries of a destination wait; False where they did before."""
    new = session.scalar(
        insert(ParkedDestinationRow)
        .values(name=name)
        .on_conflict_do_nothing(index_elements=["name"])
        .returning(ParkedDestinationRow.name)
    )
    return new is not None


def unpark_destination(session: Session, name: str) -> bool:
    """Let the deliveries of a destination go on; False where it was not parked."""
    gone = session.scalar(
        delete(ParkedDestinationRow)
        .where(ParkedDestinationRow.name == name)
        .returning(ParkedDestinationRow.name)
    )
    return gone is not None


def _queued(session: Session, study: StudyRow) -> list[ScoreRow]:
    found = session.scalars(
        select(ScoreRow)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .where(RevisionRow.study_id == study.id, ScoreRow.state == State.QUEUED)
        .with_for_update(of=ScoreRow)
    )
    return list(found)


def _scores_of(session: Session, study: StudyRow) -> Touched:
    scores = _queued(session, study)
    return Touched(score_ids=tuple(score.id for score in scores), delivery_ids=(), priority=study.priority)
