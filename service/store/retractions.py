"""Retractions: what is to be said in place of results, and what became of it. At most one of a score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.kinds import RetractionKind
from service.store import results, supersession
from service.store.results import StoredResult
from service.store.tables import RevisionRow, ScoreRow, StudyRow
from service.study import RetractionState, State, Whereabouts


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReport:
    """A report of an earlier score, as it is kept here."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetractionJob:
    """What takes back the earlier results of a study, and why.

    Attributes
    ----------
    score_id : int
    study_key : str
    state : State
        *Not assessable* or *failed*.
    reason : str
    content_hash, model_hash, config_digest : str
    run_at : datetime
    priority : int
    reports : tuple of KeptReport
        Of earlier scores, newest first; any of them says whose the study is.
    predecessor : tuple of str
        SOP class and instance UID of the newest of them.
    shown_as : str or None
        SOP class of the pictures that earlier scores left; None where there are none.
    """

    score_id: int
    study_key: str
    state: State
    reason: str
    content_hash: str
    model_hash: str
    config_digest: str
    run_at: datetime
    priority: int
    reports: tuple[KeptReport, ...]
    predecessor: tuple[str, str]
    shown_as: str | None


def waiting(session: Session) -> dict[int, int]:
    """Scores that a job should take earlier results back for, with the priority of their study."""
    rows = session.execute(
        select(ScoreRow.id, StudyRow.priority)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(ScoreRow.retraction == RetractionState.WANTED)
    )
    return {score_id: priority for score_id, priority in rows}  # noqa: C416 - rows are not pairs to dict()


def find(session: Session, score_id: int) -> RetractionJob | None:
    """Return what to make; None where nothing is wanted, any more or yet."""
    found = _wanted(session, score_id)
    if found is None:
        return None
    study, score = found
    before = supersession.earlier(session, score)
    if before.report is None:  # a lost database row is no reason to look again and again
        score.retraction = None
        return None
    return RetractionJob(
        score_id=score.id,
        study_key=study.key,
        state=score.state,
        reason=score.reason or "",
        content_hash=score.revision.content_hash,
        model_hash=score.model_hash,
        config_digest=score.config_digest,
        run_at=score.run_at.astimezone(UTC),
        priority=study.priority,
        reports=tuple(
            KeptReport(path=row.path, sha256=row.sha256, bytes=row.bytes) for row in before.reports
        ),
        predecessor=before.report,
        shown_as=before.shown_as,
    )


def record(
    session: Session,
    score_id: int,
    made: Sequence[StoredResult],
    destinations: Callable[[str], Sequence[str]],
) -> list[int] | None:
    """Store the objects of a retraction and their deliveries.

    Parameters
    ----------
    destinations : callable
        Kind of a result to the names of those that are sent it.

    Returns
    -------
    list of int or None
        Ids of the deliveries to enqueue; None where it is wanted no more: somebody was first, the study is
        scored again, or its bytes went.
    """
    found = _wanted(session, score_id)
    if found is None:
        return None
    study, score = found
    score.retraction = RetractionState.MADE
    added = results.add(
        session, study.id, score_id, made, lambda kind: destinations(RetractionKind(kind).like)
    )
    return [delivery.id for delivery in added]


def give_up(session: Session, score_id: int) -> str | None:
    """Store that a retraction could not be made; return its study, or None where none is wanted."""
    found = _wanted(session, score_id)
    if found is None:
        return None
    study, score = found
    score.retraction = RetractionState.FAILED
    return study.key


def _wanted(session: Session, score_id: int) -> tuple[StudyRow, ScoreRow] | None:
    """Study and score, for this transaction alone; the study first, as everybody locks them."""
    study = session.scalar(
        select(StudyRow)
        .join(RevisionRow, RevisionRow.study_id == StudyRow.id)
        .join(ScoreRow, ScoreRow.revision_id == RevisionRow.id)
        .where(ScoreRow.id == score_id, ScoreRow.retraction == RetractionState.WANTED)
        .with_for_update(of=StudyRow)
    )
    if study is None:
        return None
    score = session.scalars(select(ScoreRow).where(ScoreRow.id == score_id).with_for_update()).one()
    if score.retraction is not RetractionState.WANTED:
        return None
    is_open = score.state in {State.NOT_ASSESSABLE, State.FAILED} and study.bytes_are is Whereabouts.HERE
    if not is_open or not supersession.is_current(session, score):
        score.retraction = None
        return None
    return study, score
