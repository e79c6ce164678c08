"""What reports count: studies as readers judged them, and when they were first seen. No identity."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.groups import Group
from service.store import maps
from service.store.maps import StoredMap
from service.store.tables import FeedbackRow, InstanceRow, ScoreRow, StudyRow
from service.store.versions import is_newest_version
from service.study import Band, Conspicuity, State, Verdict, Whereabouts


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
        Its own group in words: modality, scanner, age; of older scores the reference group.
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
class Taught:
    """What was said of one study, and what it was said of.

    Attributes
    ----------
    key : str
        Of the study.
    judged : Judged
    score_id : int or None
        The score that was judged; None where there was none or the images are gone.
    scored_series : str
        Pseudonym.
    region, slice_index : int or None
        Which place the reader pointed at.
    regions : tuple of dict
        Of the score: volume, peak, mean, centre, strongest slice.
    study_score : float or None
    model_hash, calibration_hash : str or None
    map : StoredMap or None
    patients : frozenset of str
        Pseudonyms of what the instances say of who the patient is.
    instances : dict of str to str
        SHA-256 by file name.
    """

    key: str
    judged: Judged
    score_id: int | None
    scored_series: str
    region: int | None
    slice_index: int | None
    regions: tuple[dict[str, Any], ...]
    study_score: float | None
    model_hash: str | None
    calibration_hash: str | None
    map: StoredMap | None
    patients: frozenset[str]
    instances: dict[str, str]


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
    return tuple(_judged(word) for word in _last_words(session, since=since, model=model))


def taught(session: Session, *, since: datetime, model: str | None = None) -> tuple[Taught, ...]:
    """Return the last word on each study, with what a training needs to know of it, by key and model.

    Arguments as of `judged`.
    """
    found = []
    for word in _last_words(session, since=since, model=model):
        instances = session.scalars(
            select(InstanceRow)
            .where(InstanceRow.study_id == word.study.id, ~InstanceRow.is_own)
            .order_by(InstanceRow.file_name)
        ).all()
        score = word.score
        found.append(
            Taught(
                key=word.study.key,
                judged=_judged(word),
                score_id=None if score is None or word.study.bytes_are is not Whereabouts.HERE else score.id,
                scored_series=score.scored_series if score else "",
                region=word.row.region,
                slice_index=word.row.slice_index,
                regions=tuple(score.regions) if score else (),
                study_score=word.row.study_score,
                model_hash=word.row.model_hash,
                calibration_hash=word.row.calibration_hash,
                map=None if score is None else maps.of_score(session, score.id),
                patients=frozenset(instance.patient for instance in instances if instance.patient),
                instances={instance.file_name: instance.sha256 for instance in instances},
            )
        )
    return tuple(sorted(found, key=lambda one: (one.key, one.model_hash or "")))


@dataclass(frozen=True, slots=True)
class _Word:
    row: FeedbackRow
    study: StudyRow
    score: ScoreRow | None
    is_disputed: bool


def _last_words(session: Session, *, since: datetime, model: str | None) -> Iterable[_Word]:
    query = (
        select(FeedbackRow, StudyRow, ScoreRow)
        .join(StudyRow, StudyRow.id == FeedbackRow.study_id)
        .outerjoin(ScoreRow, ScoreRow.id == FeedbackRow.score_id)
        .where(StudyRow.received_at >= since, is_newest_version(FeedbackRow))
        .order_by(FeedbackRow.id)
    )
    if model is not None:
        query = query.where(FeedbackRow.model_hash == model)
    said: dict[tuple[int, str | None], set[Verdict]] = {}
    last: dict[tuple[int, str | None], tuple[FeedbackRow, StudyRow, ScoreRow | None]] = {}
    for row, study, score in session.execute(query):
        place = (row.study_id, row.model_hash)
        said.setdefault(place, set()).add(row.verdict)
        last[place] = (row, study, score)
    return [_Word(*found, is_disputed=len(said[place]) > 1) for place, found in last.items()]


def _judged(word: _Word) -> Judged:
    row, score = word.row, word.score
    named = f"{score.model_name} {score.model_version}".strip() if score else ""
    group = "" if score is None else score.reference_group
    if score is not None and score.group_key:
        group = Group.model_validate_json(score.group_key).label
    return Judged(
        verdict=row.verdict,
        conspicuity=None if row.conspicuity is None else Conspicuity(row.conspicuity),
        percentile=row.percentile,
        model=named or (row.model_hash or ""),
        group=group,
        is_disputed=word.is_disputed,
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
