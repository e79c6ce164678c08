"""What reports count: studies as readers judged them, and when they were first seen. No identity."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.feedback import is_newest_version
from service.store.tables import FeedbackRow, ScoreRow, StudyRow
from service.study import Band, Conspicuity, State, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was said last of one study that one model scored.

    Attributes
    ----------
    verdict : Verdict
    conspicuity : Conspicuity or None
    percentile : float or None
        That Vigil had shown; None where it had shown none.
    model : str
        Name and version; its hash where no worker has said more; empty where no model had the study.
    group : str
        Reference group of the percentile, in words.
    is_disputed : bool
        Readers said different things of it.
    """

    verdict: Verdict
    conspicuity: Conspicuity | None
    percentile: float | None
    model: str
    group: str
    is_disputed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """One study from its first image to the first reader who saw it.

    Attributes
    ----------
    state : State
    percentile : float or None
        None unless it is ranked.
    hours : float
        Until it was seen, or until now.
    is_seen : bool
    """

    state: State
    percentile: float | None
    hours: float
    is_seen: bool


def judged(session: Session, *, since: datetime, model: str | None = None) -> tuple[Judged, ...]:
    """Return the last word on each study received since a time, once for each model it was said of.

    Parameters
    ----------
    since : datetime
        Aware.
    model : str, optional
        Only what was said of the scores of this hash.
    """
    query = (
        select(FeedbackRow, ScoreRow.model_name, ScoreRow.model_version, ScoreRow.reference_group)
        .join(StudyRow, StudyRow.id == FeedbackRow.study_id)
        .outerjoin(ScoreRow, ScoreRow.id == FeedbackRow.score_id)
        .where(StudyRow.received_at >= since, is_newest_version())
        .order_by(FeedbackRow.id)
    )
    if model is not None:
        query = query.where(FeedbackRow.model_hash == model)
    said: dict[tuple[int, str | None], set[Verdict]] = {}
    last: dict[tuple[int, str | None], tuple[FeedbackRow, str, str]] = {}
    for row, name, version, group in session.execute(query):
        place = (row.study_id, row.model_hash)
        said.setdefault(place, set()).add(row.verdict)
        last[place] = (row, f"{name} {version}".strip() if name else (row.model_hash or ""), group or "")
    return tuple(
        Judged(
            verdict=row.verdict,
            conspicuity=None if row.conspicuity is None else Conspicuity(row.conspicuity),
            percentile=row.percentile,
            model=model_name,
            group=group,
            is_disputed=len(said[place]) > 1,
        )
        for place, (row, model_name, group) in last.items()
    )


def waited(
    session: Session, *, since: datetime, now: datetime, model: str | None = None
) -> tuple[Waited, ...]:
    """Return how long each study received since a time waited for its first reader.

    Parameters
    ----------
    since, now : datetime
        Aware.
    model : str, optional
        Only studies whose counting score is of this hash.
    """
    query = select(
        StudyRow.state, StudyRow.band, StudyRow.p_value, StudyRow.received_at, StudyRow.first_seen_at
    ).where(StudyRow.received_at >= since)
    if model is not None:
        query = query.join(ScoreRow, ScoreRow.id == StudyRow.score_id).where(ScoreRow.model_hash == model)
    return tuple(
        Waited(
            state=state,
            percentile=100.0 * p_value if band == Band.RANKED and p_value is not None else None,
            hours=max(((seen or now).astimezone(UTC) - received).total_seconds() / 3600, 0.0),
            is_seen=seen is not None,
        )
        for state, band, p_value, received, seen in session.execute(query)
    )
