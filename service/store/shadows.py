"""What a model said that only watches, study by study. Nothing here is shown on the list or sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from service.store import jobs
from service.store.jobs import InferenceJob
from service.store.tables import RevisionRow, ScoreRow, ShadowScoreRow, StudyRow
from service.study import State, Whereabouts

AT_A_LOOK = 500  # rows made or queued at once
MOST_PAIRS = 10_000  # compared, newest first
JUDGED = (State.SCORED, State.NOT_ASSESSABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """How an attempt of a shadow ended."""

    state: State
    reason: str | None = None
    detail: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # columns of the row


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one model said of a study.

    Attributes
    ----------
    state : State
    reason : str or None
    study_score, p_value : float or None
    seconds : float or None
        From voxels to scores; None where it has no score.
    """

    state: State
    reason: str | None
    study_score: float | None
    p_value: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What the model in service and the shadow said of the same revision of a study."""

    key: str
    served: Side
    shadow: Side


def want(session: Session, model_hash: str, *, since: datetime | None, limit: int = AT_A_LOOK) -> int:
    """Make the rows of ended studies that a shadow has not looked at; return how many.

    Parameters
    ----------
    since : datetime or None
        Only studies that ended from then on; None: any, newest first.
    limit : int
        At most so many of them.
    """
    newer = aliased(RevisionRow)
    query = (
        select(RevisionRow.id, literal(model_hash))
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .outerjoin(newer, (newer.study_id == RevisionRow.study_id) & (newer.number > RevisionRow.number))
        .outerjoin(
            ShadowScoreRow,
            (ShadowScoreRow.revision_id == RevisionRow.id) & (ShadowScoreRow.model_hash == model_hash),
        )
        .where(
            newer.id.is_(None),
            ShadowScoreRow.id.is_(None),
            StudyRow.state.in_(JUDGED),
            StudyRow.bytes_are == Whereabouts.HERE,
        )
        .order_by(StudyRow.ended_at.desc(), RevisionRow.id)
        .limit(limit)
    )
    if since is not None:
        query = query.where(StudyRow.ended_at >= since)
    made = session.scalars(
        insert(ShadowScoreRow)
        .from_select(["revision_id", "model_hash"], query)
        .on_conflict_do_nothing(index_elements=["revision_id", "model_hash"])
        .returning(ShadowScoreRow.id)
    )
    return len(made.all())


def waiting(session: Session, model_hash: str) -> list[int]:
    """Return rows that a job should be working on, oldest first, `AT_A_LOOK` at most."""
    return list(
        session.scalars(
            select(ShadowScoreRow.id)
            .where(ShadowScoreRow.model_hash == model_hash, ShadowScoreRow.state == State.QUEUED)
            .order_by(ShadowScoreRow.id)
            .limit(AT_A_LOOK)
        )
    )


def begin(session: Session, row_id: int, model_hash: str) -> tuple[InferenceJob, int] | None:
    """Count one attempt; return what to read and which attempt it is. None where nothing is left to do.

    A row that became pointless, by a newer revision or since the images were deleted, goes.
    """
    row = session.scalar(select(ShadowScoreRow).where(ShadowScoreRow.id == row_id).with_for_update())
    if row is None or row.state is not State.QUEUED or row.model_hash != model_hash:
        return None
    score_id = session.scalar(
        select(func.max(ScoreRow.id)).where(
            ScoreRow.revision_id == row.revision_id, ScoreRow.state.in_(JUDGED)
        )
    )
    job = None if score_id is None else jobs.as_read(session, score_id)
    if job is None or job.is_deleted or not jobs.is_newest(session, row.revision_id):
        session.delete(row)
        return None
    row.attempts += 1
    return job, row.attempts


def end(session: Session, row_id: int, watched: Watched) -> bool:
    """Store how an attempt ended; return whether it was the first to say so."""
    row = session.scalar(select(ShadowScoreRow).where(ShadowScoreRow.id == row_id).with_for_update())
    if row is None or row.state is not State.QUEUED:
        return False
    row.state, row.reason, row.detail = watched.state, watched.reason, watched.detail
    row.ended_at = datetime.now(UTC)
    for column, value in watched.values.items():
        setattr(row, column, value)
    return True


def excuse(session: Session, row_id: int) -> None:
    """Take an attempt back: what ended it was not the study's fault."""
    row = session.scalar(select(ShadowScoreRow).where(ShadowScoreRow.id == row_id).with_for_update())
    if row is not None:
        row.attempts = max(row.attempts - 1, 0)


def drop_waiting(session: Session) -> list[int]:
    """Forget what no shadow will look at any more; return the ids of those rows."""
    gone = session.scalars(
        delete(ShadowScoreRow).where(ShadowScoreRow.state == State.QUEUED).returning(ShadowScoreRow.id)
    )
    return list(gone)


def count(session: Session, model_hash: str | None = None) -> dict[State, int]:
    """Return rows by state, of one shadow or of all; every state that a row can have is named."""
    query = select(ShadowScoreRow.state, func.count()).group_by(ShadowScoreRow.state)
    if model_hash is not None:
        query = query.where(ShadowScoreRow.model_hash == model_hash)
    kinds = (State.QUEUED, State.SCORED, State.NOT_ASSESSABLE, State.FAILED)
    return dict.fromkeys(kinds, 0) | dict(session.execute(query).all())


def pairs(session: Session, served_hash: str, shadow_hash: str) -> tuple[Pair, ...]:
    """Return what both models said of the same revisions, `MOST_PAIRS` newest first."""
    newest = (
        select(func.max(ScoreRow.id).label("id"))
        .where(ScoreRow.model_hash == served_hash, ScoreRow.state.in_(JUDGED))
        .group_by(ScoreRow.revision_id)
        .subquery()
    )
    query = (
        select(StudyRow.key, ScoreRow, ShadowScoreRow)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .join(ShadowScoreRow, ShadowScoreRow.revision_id == ScoreRow.revision_id)
        .where(
            ScoreRow.id.in_(select(newest.c.id)),
            ShadowScoreRow.model_hash == shadow_hash,
            ShadowScoreRow.state.in_(JUDGED),
        )
        .order_by(StudyRow.received_at.desc(), RevisionRow.id.desc())
        .limit(MOST_PAIRS)
    )
    return tuple(
        Pair(key=key, served=_side(score), shadow=_side(watched))
        for key, score, watched in session.execute(query)
    )


def name_of(session: Session, model_hash: str) -> tuple[str, str]:
    """Name and version that a shadow gave itself; empty before its first study."""
    row = session.execute(
        select(ShadowScoreRow.model_name, ShadowScoreRow.model_version)
        .where(ShadowScoreRow.model_hash == model_hash, ShadowScoreRow.model_name != "")
        .limit(1)
    ).first()
    return (row.model_name, row.model_version) if row else ("", "")


def _side(row: ScoreRow | ShadowScoreRow) -> Side:
    taken = row.seconds.get("score") if row.state is State.SCORED else None
    return Side(
        state=row.state,
        reason=row.reason,
        study_score=row.study_score,
        p_value=row.p_value,
        seconds=None if taken is None else float(taken),
    )
