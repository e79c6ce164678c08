"""Studies of the list as values, with everything a row says.

Only a study of the ranked band carries a rank or a percentile (I7): while a new revision is being scored, the
study is pending again and its old percentile is not shown as if it still held. Every number comes inside an
`Assessment`, which names model, calibration, reference group and time (I10).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from sqlalchemy import ColumnElement, Float, exists, literal_column, select
from sqlalchemy.orm import Session, aliased, defer

from service.access import Masking, ShownIdentity
from service.store import feedback, identities, referrals
from service.store.among import among
from service.store.order import PERCENTILE, Sort, tier_of
from service.store.referrals import Referral
from service.store.shown import standing_of
from service.store.tables import DeliveryRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import PARKED, Band, DeliveryStatus, Priority, State, Tier, Whereabouts
from service.why import SORTS, Standing, Why, explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model a study was given to.

    Attributes
    ----------
    name, version : str
        Empty until the worker has said so.
    sha256 : str
        Hash over the artefact, hexadecimal.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """How unusual a study is, and everything needed to read that number (I10).

    Attributes
    ----------
    p_value : float
        In (0, 1].
    percentile : float
        Normality percentile, 100 p: low is unusual.
    study_score : float
        Raw score, higher is more abnormal; orders equal percentiles.
    model : Model
    calibration_sha256 : str
    reference_group : str
        Whom the study was compared with.
    reference_n : int
        Studies in that group.
    run_at : datetime
        Time of the run, as written into the results.
    """

    p_value: float
    percentile: float
    study_score: float
    model: Model
    calibration_sha256: str
    reference_group: str
    reference_n: int
    run_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultStatus:
    """One result and one destination; both None-valued fields are None where it has no destination."""

    kind: str
    destination: str | None
    status: DeliveryStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistRow:
    """One study on the list.

    Attributes
    ----------
    rank : int or None
        From 1, most unusual first; only in the ranked band.
    band : Band
    key : str
    state : State
    reason : str or None
        Code of why there is no score.
    detail : str
        The same for people, free of identity.
    assessment : Assessment or None
        Only in the ranked band.
    raw_score : float or None
        Only in the uncalibrated band: higher is more abnormal, and nothing says how usual it is.
    model : Model or None
        Who judged, or will judge, or declined.
    modality, description, sender : str
        As sent; the description is text of a stranger.
    scored_series : str
        Description of the series that was scored; empty where none was.
    received_at : datetime
    waiting_since : datetime or None
        Since when a study without an end waits.
    ended_at : datetime or None
    is_receiving : bool
        Instances have come that no revision holds yet.
    flag : str or None
        Code of what a person must look at, whatever the state.
    is_parked : bool
        A person put it aside; nobody scores it.
    revision : int or None
        Number of the revision whose score it is.
    score : str
        Names what the row says, for who marks or judges it (`service.store.shown`).
    bytes_are : Whereabouts
        Where its images are; what they said of it stays when they are deleted.
    results : tuple of ResultStatus
    priority : Priority
    why : tuple of Why
        Why it stands where it stands.
    is_overdue : bool
        It waits longer than the limit and no reader has seen it.
    identity : ShownIdentity
        What the list may show of it.
    seen_at, seen_by
        Which reader saw it as it stands, and when.
    assigned_to : str or None
        Account that has claimed it.
    feedback : str or None
        Newest verdict of a reader.
    referral : Referral or None
        The open one that is due first.
    """

    rank: int | None
    band: Band
    key: str
    state: State
    reason: str | None
    detail: str
    assessment: Assessment | None
    raw_score: float | None
    model: Model | None
    modality: str
    description: str
    scored_series: str
    sender: str
    received_at: datetime
    waiting_since: datetime | None
    ended_at: datetime | None
    is_receiving: bool
    flag: str | None
    is_parked: bool
    revision: int | None
    score: str
    bytes_are: Whereabouts
    results: tuple[ResultStatus, ...]
    priority: Priority
    why: tuple[Why, ...]
    is_overdue: bool
    identity: ShownIdentity
    seen_at: datetime | None
    seen_by: str | None
    assigned_to: str | None
    feedback: str | None
    referral: Referral | None = None

    @property
    def percentile(self) -> float | None:
        """Normality percentile, or None where nothing was scored."""
        return self.assessment.percentile if self.assessment else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """How a list is read: when who is overdue is decided, in which order, and what it shows of people."""

    at: datetime
    longest_unread_s: float
    masking: Masking
    sort: Sort = Sort.TRIAGE

    @property
    def cutoff(self) -> datetime:
        """Who came by then and is unseen is overdue."""
        return self.at - timedelta(seconds=self.longest_unread_s)


def model_of(score: ScoreRow) -> Model:
    """Return the model a score row was made for."""
    return Model(name=score.model_name, version=score.model_version, sha256=score.model_hash)


def assessment_of(score: ScoreRow) -> Assessment | None:
    """Return the numbers of a score row, or None where it has none."""
    if score.state is not State.SCORED or score.p_value is None or score.study_score is None:
        return None
    return Assessment(
        p_value=score.p_value,
        percentile=100.0 * score.p_value,
        study_score=score.study_score,
        model=model_of(score),
        calibration_sha256=score.calibration_hash,
        reference_group=score.reference_group,
        reference_n=score.reference_n or 0,
        run_at=score.run_at.astimezone(UTC),
    )


def rows_of(
    session: Session, ids: Sequence[int], listing: Listing, *, first_rank: int
) -> tuple[WorklistRow, ...]:
    """Studies as values, in the order of `ids`; a fixed number of queries."""
    found = {
        study.id: (study, score, revision, has_equals)
        for study, score, revision, has_equals in session.execute(
            select(StudyRow, ScoreRow, RevisionRow.number, _has_equals(listing.cutoff))
            .outerjoin(ScoreRow, ScoreRow.id == StudyRow.score_id)
            .outerjoin(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
            .where(among(StudyRow.id, ids))
            .options(defer(ScoreRow.heads), defer(ScoreRow.regions), defer(ScoreRow.seconds))
        )
    }
    results = _results(session, [score.id for _, score, _, _ in found.values() if score is not None])
    shown = identities.shown(session, [study.key for study, _, _, _ in found.values()], listing.masking)
    verdicts = feedback.newest_verdicts(session, ids)
    open_referrals = referrals.earliest_open(session, ids)
    ranks = count(first_rank)
    rows = []
    for study_id in ids:
        study, score, revision, has_equals = found[study_id]
        rank = next(ranks) if study.band == Band.RANKED and listing.sort is Sort.TRIAGE else None
        row = replace(
            _row(study, score, rank, results[score.id] if score else [], listing), revision=revision
        )
        why = explain(_standing(study, row, listing, has_equals=has_equals))
        identity, verdict = shown.get(study.key, ShownIdentity()), verdicts.get(study_id)
        rows.append(
            replace(
                row,
                why=why,
                identity=identity,
                feedback=verdict,
                referral=open_referrals.get(study_id),
            )
        )
    return tuple(rows)


def _has_equals(cutoff: datetime) -> ColumnElement[bool]:
    """Whether another study that is ranked by its percentile has the same."""
    twin = aliased(StudyRow, name="twin")
    own, others = (literal_column(PERCENTILE.format(study=name), Float()) for name in ("study", "twin"))
    return exists().where(
        StudyRow.band == Band.RANKED,
        twin.band == Band.RANKED,
        twin.priority == StudyRow.priority,
        others == own,
        twin.seen_at.is_(None),
        twin.received_at > cutoff,
        twin.id != StudyRow.id,
    )


def _row(
    study: StudyRow, score: ScoreRow | None, rank: int | None, results: list[ResultStatus], listing: Listing
) -> WorklistRow:
    standing = Band(study.band)
    waiting_since = study.completed_at or study.last_instance_at
    return WorklistRow(
        rank=rank,
        band=standing,
        key=study.key,
        state=study.state,
        reason=study.reason or (PARKED if study.parked_at and standing is Band.UNJUDGED else None),
        detail=study.detail,
        assessment=assessment_of(score) if score and standing is Band.RANKED else None,
        raw_score=study.study_score if standing is Band.UNCALIBRATED else None,
        model=model_of(score) if score else None,
        modality=study.modality,
        description=study.description,
        scored_series=_scored_series(score) if score and standing is Band.RANKED else "",
        sender=study.sender,
        received_at=study.received_at.astimezone(UTC),
        waiting_since=waiting_since.astimezone(UTC) if standing is Band.PENDING else None,
        ended_at=study.ended_at.astimezone(UTC) if study.ended_at else None,
        is_receiving=study.is_pending,
        flag=study.flag,
        is_parked=study.parked_at is not None,
        revision=None,
        score=standing_of(study),
        bytes_are=study.bytes_are,
        results=tuple(results),
        priority=Priority(study.priority),
        why=(),
        is_overdue=tier_of(study, listing.cutoff) in {Tier.STAT_OVERDUE, Tier.OVERDUE},
        identity=ShownIdentity(),
        seen_at=study.seen_at.astimezone(UTC) if study.seen_at else None,
        seen_by=study.seen_by,
        assigned_to=study.assigned_to,
        feedback=None,
    )


def _standing(study: StudyRow, row: WorklistRow, listing: Listing, *, has_equals: bool) -> Standing:
    """What `service.why` needs to say why a row stands where it does."""
    assessment = row.assessment
    is_triage = listing.sort is Sort.TRIAGE
    return Standing(
        band=row.band,
        tier=tier_of(study, listing.cutoff) if is_triage else None,
        state=row.state,
        reason=row.reason,
        is_parked=row.is_parked,
        waited_s=(listing.at - study.received_at).total_seconds(),
        longest_s=listing.longest_unread_s,
        percentile=row.percentile,
        reference_group=assessment.reference_group if assessment else "",
        reference_n=assessment.reference_n if assessment else 0,
        has_equals=has_equals,
        seen_by=row.seen_by,
        sorted_by=SORTS[listing.sort],
    )


def _scored_series(score: ScoreRow) -> str:
    """Return the description of the series whose score it is."""
    return next((str(series["description"]) for series in score.series if series.get("is_scored")), "")


def _results(session: Session, score_ids: Sequence[int]) -> dict[int, list[ResultStatus]]:
    """Return results with their deliveries, by score."""
    found = session.execute(
        select(ResultRow.score_id, ResultRow.kind, DeliveryRow.destination, DeliveryRow.status)
        .outerjoin(DeliveryRow, DeliveryRow.result_id == ResultRow.id)
        .where(among(ResultRow.score_id, score_ids))
        .order_by(ResultRow.id, DeliveryRow.id)
    )
    results: dict[int, list[ResultStatus]] = defaultdict(list)
    for score_id, kind, destination, status in found:
        results[score_id].append(ResultStatus(kind=kind, destination=destination, status=status))
    return results
