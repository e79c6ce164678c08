"""On what a score rests: everything that is needed to make it again, free of identity."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from service.errors import TriageError, UnknownStudyError
from service.store.rows import Model, model_of
from service.store.tables import InstanceRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import State


class NoScoreError(TriageError):
    """Nobody has scored this study yet. See where it stands with ``vigil studies show``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedInstance:
    """One instance that was read.

    Attributes
    ----------
    number : int
        From 1, within the revision.
    sha256 : str
        Of its data set; empty where it was damaged on arrival.
    bytes : int
    """

    number: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRecord:
    """One score with all that it was made of.

    Attributes
    ----------
    study_key : str
    score_id, revision : int
    content_hash : str
        Over the instances of the revision.
    instances : tuple of RecordedInstance
    state : State
    reason : str or None
        Code of why there is no percentile.
    model : Model
    calibration_sha256, reference_group : str
        Whom it was compared with; empty where with nobody.
    reference_n : int or None
    preprocessing, provider : str or None
        Version of what was done to the voxels, and what ran the network.
    software : dict of str to str
        Versions of what shapes a score.
    config_digest : str
        Over everything besides instances and model that shapes the results.
    scored_series : str
        Pseudonym of the series.
    study_score, p_value, tail, peak : float or None
    heads, looks : dict of str to float
        Score of each member of the model, and what the images are like.
    run_at : datetime
    ended_at : datetime or None
    results : dict of str to str
        SHA-256 of each result object, by kind.
    """

    study_key: str
    score_id: int
    revision: int
    content_hash: str
    instances: tuple[RecordedInstance, ...]
    state: State
    reason: str | None
    model: Model
    calibration_sha256: str
    reference_group: str
    reference_n: int | None
    preprocessing: str | None
    provider: str | None
    software: dict[str, str]
    config_digest: str
    scored_series: str
    study_score: float | None
    p_value: float | None
    tail: float | None
    peak: float | None
    heads: dict[str, float]
    looks: dict[str, float]
    run_at: datetime
    ended_at: datetime | None
    results: dict[str, str]


def record_of(session: Session, key: str) -> ScoreRecord:
    """The record of the score of a study that counts.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    NoScoreError
        If it has no score, not even one that waits.
    """
    study = session.scalar(select(StudyRow).where(StudyRow.key == key))
    if study is None:
        raise UnknownStudyError(UnknownStudyError.__doc__)
    found = session.execute(
        select(ScoreRow, RevisionRow)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .where(ScoreRow.id == study.score_id)
        .options(selectinload(ScoreRow.results))
    ).first()
    if found is None:
        raise NoScoreError(NoScoreError.__doc__)
    score, revision = found
    instances = session.scalars(
        select(InstanceRow)
        .where(InstanceRow.study_id == study.id, InstanceRow.first_revision <= revision.number)
        .order_by(InstanceRow.file_name)
    )
    return ScoreRecord(
        study_key=key,
        score_id=score.id,
        revision=revision.number,
        content_hash=revision.content_hash,
        instances=tuple(
            RecordedInstance(number=number, sha256=row.sha256, bytes=row.bytes)
            for number, row in enumerate(instances, start=1)
        ),
        state=score.state,
        reason=score.reason,
        model=model_of(score),
        calibration_sha256=score.calibration_hash,
        reference_group=score.reference_group,
        reference_n=score.reference_n,
        preprocessing=score.preprocessing,
        provider=score.provider,
        software=dict(score.software),
        config_digest=score.config_digest,
        scored_series=score.scored_series,
        study_score=score.study_score,
        p_value=score.p_value,
        tail=score.tail,
        peak=score.peak,
        heads=dict(score.heads),
        looks=dict(score.looks),
        run_at=score.run_at.astimezone(UTC),
        ended_at=score.ended_at.astimezone(UTC) if score.ended_at else None,
        results=_results(score.results),
    )


def _results(rows: list[ResultRow]) -> dict[str, str]:
    return {row.kind: row.sha256 for row in rows}
