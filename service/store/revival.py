"""What a person gives another chance: rows of work that wait again."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from service.errors import TriageError
from service.store import deliveries, keeping
from service.store.studies import Revision
from service.store.supersession import holds
from service.store.tables import RevisionRow
from service.study import ENDED, DeliveryStatus, PackState, RetractionState, State, move


class NothingToSendError(TriageError):
    """Nothing of this study goes there. See its deliveries for what was made and where it goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revived:
    """Scores and deliveries that wait again, and the priority of their study.

    Attributes
    ----------
    withdrawn : int
        Results that were given up, and that a newer score has replaced since: nobody sends them any more.
    """

    score_ids: tuple[int, ...]
    delivery_ids: tuple[int, ...]
    priority: int
    withdrawn: int = 0


def revive(session: Session, key: str) -> Revived:
    """Put a study's failed score and undelivered results back to waiting, with all attempts before them.

    Results of a score that counts no longer are withdrawn: they would come after the newer ones.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If its bytes are gone.
    """
    study = keeping.present(session, key)
    scores, withdrawn = [], 0
    if study.state is State.FAILED:
        score = study.revisions[-1].scores[-1]
        _want_pack(score.revision)
        score.state, score.reason, score.detail, score.attempts = State.QUEUED, None, "", 0
        score.ended_at = None
        if score.retraction is RetractionState.MADE:  # what comes now is later than that
            score.run_at = datetime.now(UTC)
        else:
            score.retraction = None
        study.state = move(study.state, State.QUEUED)
        study.reason, study.detail, study.ended_at = None, "", None
        scores.append(score.id)
    unsent = []
    for delivery in deliveries.locked_of(session, study, DeliveryStatus.UNDELIVERED):
        if not holds(session, delivery.result):
            deliveries.withdraw(delivery)
            withdrawn += 1
            continue
        unsent.append(delivery)
        delivery.status, delivery.attempts, delivery.ended_at = DeliveryStatus.WAITING, 0, None
        delivery.fallback, delivery.confirm_attempts = None, 0
    return Revived(
        score_ids=tuple(scores),
        delivery_ids=tuple(delivery.id for delivery in unsent),
        priority=study.priority,
        withdrawn=withdrawn,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A study that may be scored again.

    Attributes
    ----------
    revision : Revision
        The one that counts.
    is_scored_already : bool
        By this model and configuration: the study stays as it is.
    """

    revision: Revision
    is_scored_already: bool


def has_failed(session: Session, key: str) -> bool:
    """Whether a study ended without an answer.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If its bytes are gone.
    """
    return keeping.present(session, key).state is State.FAILED


def reopen(session: Session, key: str, *, model_hash: str, config_digest: str) -> Opened | None:
    """Make an ended study *complete* again, for a model that has not scored what counts of it.

    Returns
    -------
    Opened or None
        None where the study has not ended: its score is on the way.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If its bytes are gone.
    """
    study = keeping.present(session, key)
    if study.state not in ENDED:
        return None
    row = study.revisions[-1]
    is_scored_already = any(
        (score.model_hash, score.config_digest) == (model_hash, config_digest) for score in row.scores
    )
    if not is_scored_already:
        _want_pack(row)
        study.state = move(study.state, State.COMPLETE)
        study.reason, study.detail, study.ended_at = None, "", None
        study.waived = None  # given for the results there were
        session.flush()
    revision = Revision(id=row.id, number=row.number, content_hash=row.content_hash, priority=study.priority)
    return Opened(revision=revision, is_scored_already=is_scored_already)


def send_again(session: Session, key: str, *, destination: str | None) -> Revived:
    """Put every delivery of the results that count back to waiting, with all attempts before it.

    Parameters
    ----------
    destination : str or None
        None: to all.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If its bytes are gone.
    NothingToSendError
        If nothing of the study goes there.
    """
    study = keeping.present(session, key)
    scores = study.revisions[-1].scores if study.revisions else []
    found = deliveries.locked_of_score(session, scores[-1].id, destination) if scores else ()
    if not found:
        raise NothingToSendError(NothingToSendError.__doc__)
    for delivery in found:
        delivery.status, delivery.attempts, delivery.ended_at = DeliveryStatus.WAITING, 0, None
        delivery.next_attempt_at = datetime.now(UTC)
        delivery.answer, delivery.error, delivery.fallback = None, "", None
        delivery.confirmed_by, delivery.confirm_attempts = None, 0
        delivery.transaction_uid, delivery.asked_at = None, None
    ids = tuple(delivery.id for delivery in found)
    return Revived(score_ids=(), delivery_ids=ids, priority=study.priority)


def _want_pack(revision: RevisionRow) -> None:
    """Ask for a pack that is gone: the files may be back."""
    if revision.pack in {PackState.LOST, PackState.DELETED}:
        revision.pack, revision.pack_reason = PackState.WANTED, None
