"""One study with all that happened to it, as plain queries for a screen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from service.access import Masking
from service.errors import UnknownStudyError
from service.store.rows import Assessment, Model, WorklistRow, assessment_of, model_of
from service.store.stages import Stage, stages_of
from service.store.tables import (
    AuditRow,
    DeliveryRow,
    InstanceRow,
    ResultRow,
    RevisionRow,
    ScoreRow,
    StudyRow,
)
from service.store.worklist import worklist_row
from service.study import LONGEST_UNREAD_S, Band, DeliveryStatus, State, Whereabouts

TIMELINE_LIMIT = 500  # a study resent for ever must not fill the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One connected part of the map above the lowest band.

    Attributes
    ----------
    volume_mm3, peak, mean : float
        Peak and mean of the map, 0 to 1.
    centre_mm : tuple of float
        Patient millimetres, LPS.
    slice_index : int
        Slice of the scored volume that holds the peak.
    """

    volume_mm3: float
    peak: float
    mean: float
    centre_mm: tuple[float, float, float]
    slice_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series of a revision: scored, or why not.

    Attributes
    ----------
    key : str
        Pseudonym.
    modality, description : str
    instances : int
    is_scored : bool
    reason : str or None
    detail : str
    """

    key: str
    modality: str
    description: str
    instances: int
    is_scored: bool
    reason: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One result on its way to one destination.

    `answer` is the DIMSE or HTTP status of the last attempt, `confirmed_by` what made it stored, `fallback`
    the code of why another way than the wanted one was taken.
    """

    destination: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime
    answer: int | None
    error: str
    ended_at: datetime | None
    confirmed_by: str | None
    fallback: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One DICOM object we made, and where it stands."""

    kind: str
    path: str
    sha256: str
    bytes: int
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One model on one revision.

    Attributes
    ----------
    state : State
    reason : str or None
    detail : str
    attempts : int
    run_at : datetime
    ended_at : datetime or None
    model : Model
    assessment : Assessment or None
        Only of a scored one.
    heads : dict of str to float
        Raw score of each member of the model, higher is more abnormal.
    regions : tuple of Region
        Largest peak first.
    series : tuple of Series
    pictures : int
        Frames of the stored secondary capture.
    results : tuple of Result
    """

    state: State
    reason: str | None
    detail: str
    attempts: int
    run_at: datetime
    ended_at: datetime | None
    model: Model
    assessment: Assessment | None
    heads: dict[str, float]
    regions: tuple[Region, ...]
    series: tuple[Series, ...]
    pictures: int
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A study with a given set of instances; scores newest first."""

    number: int
    completed_by: str
    created_at: datetime
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the audit trail."""

    number: int
    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDetail:
    """One study.

    Attributes
    ----------
    row : WorklistRow
        As on the list, with its rank there.
    ranked : int
        Studies in the ranked band.
    completed_at : datetime or None
    completed_by : str or None
        Trigger that fired.
    instances, bytes : int
        Received so far, our own results not counted.
    bytes_are : Whereabouts
        Whether images, pack and result objects are still here; the rows stay.
    deleted_at : datetime or None
        When it was last decided that they go.
    hold, waived : str or None
        A person's reasons: why nothing may be deleted, why something may.
    revisions : tuple of Revision
        Newest first.
    timeline : tuple of Event
        Oldest first; the newest `TIMELINE_LIMIT`.
    stages : tuple of Stage
        Where the time of the current revision went.
    """

    row: WorklistRow
    ranked: int
    completed_at: datetime | None
    completed_by: str | None
    instances: int
    bytes: int
    bytes_are: Whereabouts
    deleted_at: datetime | None
    hold: str | None
    waived: str | None
    revisions: tuple[Revision, ...]
    timeline: tuple[Event, ...]
    stages: tuple[Stage, ...]

    @property
    def current(self) -> Score | None:
        """The score that counts: the newest of the newest revision."""
        newest = self.revisions[0].scores if self.revisions else ()
        return newest[0] if newest else None

    @property
    def has_pictures(self) -> bool:
        """Whether the pictures of the score that counts are still kept."""
        current = self.current
        if current is None or current.ended_at is None or not current.pictures:
            return False
        return self.deleted_at is None or current.ended_at > self.deleted_at


def study_detail(
    session: Session,
    key: str,
    *,
    longest_unread_s: float = LONGEST_UNREAD_S,
    masking: Masking = Masking.NONE,
) -> StudyDetail:
    """One study with its revisions, scores, results, deliveries and timeline; a fixed number of queries.

    Parameters
    ----------
    session : Session
    key : str
    longest_unread_s, masking
        As for the list (`service.store.worklist.worklist`).

    Raises
    ------
    UnknownStudyError
        If no study has this key.
    """
    row = worklist_row(session, key, longest_unread_s=longest_unread_s, masking=masking)
    if row is None:
        raise UnknownStudyError(UnknownStudyError.__doc__)
    study = session.scalars(
        select(StudyRow)
        .where(StudyRow.key == key)
        .options(
            selectinload(StudyRow.revisions)
            .selectinload(RevisionRow.scores)
            .selectinload(ScoreRow.results)
            .selectinload(ResultRow.deliveries)
        )
    ).one()
    instances, size = session.execute(
        select(func.count(), func.coalesce(func.sum(InstanceRow.bytes), 0)).where(
            InstanceRow.study_id == study.id, ~InstanceRow.is_own
        )
    ).one()
    ranked = session.scalar(select(func.count()).where(StudyRow.band == Band.RANKED)) or 0
    return StudyDetail(
        row=row,
        ranked=ranked,
        completed_at=_utc(study.completed_at),
        completed_by=study.completed_by,
        instances=instances,
        bytes=int(size),
        bytes_are=study.bytes_are,
        deleted_at=_utc(study.deleted_at),
        hold=study.hold,
        waived=study.waived,
        revisions=tuple(_revision(revision) for revision in reversed(study.revisions)),
        timeline=_timeline(session, key),
        stages=stages_of(study),
    )


def _timeline(session: Session, key: str) -> tuple[Event, ...]:
    newest = session.scalars(
        select(AuditRow)
        .where(AuditRow.study_key == key)
        .order_by(AuditRow.number.desc())
        .limit(TIMELINE_LIMIT)
    ).all()
    return tuple(
        Event(
            number=row.number,
            at=row.at.astimezone(UTC),
            actor=row.actor,
            action=row.action,
            detail=row.detail,
        )
        for row in reversed(newest)
    )


def _revision(row: RevisionRow) -> Revision:
    return Revision(
        number=row.number,
        completed_by=row.completed_by,
        created_at=row.created_at.astimezone(UTC),
        scores=tuple(_score(score) for score in reversed(row.scores)),
    )


def _score(row: ScoreRow) -> Score:
    assessment = assessment_of(row)
    return Score(
        state=row.state,
        reason=row.reason,
        detail=row.detail,
        attempts=row.attempts,
        run_at=row.run_at.astimezone(UTC),
        ended_at=_utc(row.ended_at),
        model=model_of(row),
        assessment=assessment,
        # No number without the assessment that says what it means (I7, I10).
        heads={name: float(value) for name, value in row.heads.items()} if assessment else {},
        regions=_regions(row.regions) if assessment else (),
        series=_series(row.series),
        pictures=row.pictures if assessment else 0,
        results=tuple(_result(result) for result in row.results),
    )


def _regions(stored: Sequence[Mapping[str, Any]]) -> tuple[Region, ...]:
    return tuple(
        Region(
            volume_mm3=item["volume_mm3"],
            peak=item["peak"],
            mean=item["mean"],
            centre_mm=(item["centre_mm"][0], item["centre_mm"][1], item["centre_mm"][2]),
            slice_index=item["slice_index"],
        )
        for item in stored
    )


def _series(stored: Sequence[Mapping[str, Any]]) -> tuple[Series, ...]:
    return tuple(
        Series(
            key=item["key"],
            modality=item["modality"],
            description=item["description"],
            instances=item["instances"],
            is_scored=item["is_scored"],
            reason=item["reason"],
            detail=item["detail"],
        )
        for item in stored
    )


def _result(row: ResultRow) -> Result:
    return Result(
        kind=row.kind,
        path=row.path,
        sha256=row.sha256,
        bytes=row.bytes,
        deliveries=tuple(_delivery(delivery) for delivery in row.deliveries),
    )


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(
        destination=row.destination,
        status=row.status,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at.astimezone(UTC),
        answer=row.answer,
        error=row.error,
        ended_at=_utc(row.ended_at),
        confirmed_by=row.confirmed_by,
        fallback=row.fallback,
    )


def _utc(at: datetime | None) -> datetime | None:
    return at.astimezone(UTC) if at else None
