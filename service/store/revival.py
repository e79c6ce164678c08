"""What a person gives another chance: rows of failed work that wait again."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.store import deliveries, keeping
from service.study import DeliveryStatus, PackState, State, move


@dataclass(frozen=True, slots=True, kw_only=True)
class Revived:
    """Scores and deliveries that wait again, and the priority of their study."""

    score_ids: tuple[int, ...]
    delivery_ids: tuple[int, ...]
    priority: int


def revive(session: Session, key: str) -> Revived:
    """Put a study's failed score and undelivered results back to waiting, with all attempts before them.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If its bytes are gone.
    """
    study = keeping.present(session, key)
    scores = []
    if study.state is State.FAILED:
        score = study.revisions[-1].scores[-1]
        if score.revision.pack in {PackState.LOST, PackState.DELETED}:  # the files may be back
            score.revision.pack, score.revision.pack_reason = PackState.WANTED, None
        score.state, score.reason, score.detail, score.attempts = State.QUEUED, None, "", 0
        score.ended_at = None
        study.state = move(study.state, State.QUEUED)
        study.reason, study.detail, study.ended_at = None, "", None
        scores.append(score.id)
    unsent = deliveries.locked_of(session, study, DeliveryStatus.UNDELIVERED)
    for delivery in unsent:
        delivery.status, delivery.attempts, delivery.ended_at = DeliveryStatus.WAITING, 0, None
        delivery.fallback, delivery.confirm_attempts = None, 0
    return Revived(
        score_ids=tuple(scores),
        delivery_ids=tuple(delivery.id for delivery in unsent),
        priority=study.priority,
    )
