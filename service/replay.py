"""A person's second chance: a study is scored again, its results are sent again.

Scoring is a pure function of instances, model and configuration (I4). So the same model is not run twice on
what it has scored: a study is scored again after it failed, or because another model is in service. All of it
happens in the caller's transaction.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from service import engine
from service.admission import Admission
from service.engine import Pool
from service.store import audit, revival

COMPLETED_BY = "rescore"
IN_HAND = "in_hand"
SAME_MODEL = "same_model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was put back to work.

    Attributes
    ----------
    scores, deliveries : int
        How many; both 0 where there was nothing to do.
    why : str or None
        Code of why there was nothing to score: `IN_HAND`, `SAME_MODEL`.
    """

    scores: int = 0
    deliveries: int = 0
    why: str | None = None


def replay(session: Session, key: str, *, actor: str) -> Replayed:
    """Queue again whatever of a study ended without success. What succeeded stays as it is.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If its bytes are gone.
    """
    revived = revival.revive(session, key)
    for score_id in revived.score_ids:
        engine.enqueue(session, Pool.INFER, score_id, priority=revived.priority)
    for delivery_id in revived.delivery_ids:
        engine.enqueue(session, Pool.DELIVER, delivery_id, priority=revived.priority)
    replayed = Replayed(scores=len(revived.score_ids), deliveries=len(revived.delivery_ids))
    if replayed.scores or replayed.deliveries or revived.withdrawn:
        audit.append(
            session,
            "study.replayed",
            actor=actor,
            study_key=key,
            scores=replayed.scores,
            deliveries=replayed.deliveries,
            withdrawn=revived.withdrawn,
        )
    return replayed


def rescore(session: Session, key: str, *, actor: str, admission: Admission) -> Replayed:
    """Score a study again: after a failure, or by the model that is in service now.

    Parameters
    ----------
    admission : Admission
        Of the model in service.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If its bytes are gone.
    """
    if revival.has_failed(session, key):
        return replay(session, key, actor=actor)
    model_hash = admission.model_hash()
    opened = revival.reopen(
        session, key, model_hash=model_hash, config_digest=admission.config_digest(session, model_hash)
    )
    if opened is None:
        return Replayed(why=IN_HAND)
    if opened.is_scored_already:
        return Replayed(why=SAME_MODEL)
    admission.admit(
        session, key, opened.revision, completed_by=COMPLETED_BY, now=datetime.now(UTC), actor=actor
    )
    return Replayed(scores=1)


def resend(session: Session, key: str, *, actor: str, destination: str | None = None) -> Replayed:
    """Send the results that count again, whatever became of them, at once.

    The objects and their UIDs are those of the first time (I4): a destination that has them sees a copy.

    Parameters
    ----------
    destination : str, optional
        Only to it.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If its bytes are gone.
    NothingToSendError
        If nothing of the study goes there.
    """
    sent = revival.send_again(session, key, destination=destination)
    for delivery_id in sent.delivery_ids:
        engine.cancel(session, Pool.DELIVER, delivery_id)  # it would wait for its back-off
        engine.enqueue(session, Pool.DELIVER, delivery_id, priority=sent.priority)
    audit.append(
        session,
        "study.resent",
        actor=actor,
        study_key=key,
        destination=destination,
        deliveries=len(sent.delivery_ids),
    )
    return Replayed(deliveries=len(sent.delivery_ids))
