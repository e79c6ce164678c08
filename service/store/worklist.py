"""The worklist and one study, as plain queries for a screen.

What Vigil could not judge stands above what it ranked, and only a scored study carries a rank or a
percentile (I7). The current revision's newest score is what counts: while a new revision is being scored, the
study is pending again and its old percentile is not shown as if it still held. Every number comes inside an
`Assessment`, which names model, calibration, reference group and time (I10).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Row, Select, Subquery, and_, case, func, or_, select
from sqlalchemy.orm import Session

from service.access import Masking, ShownIdentity, mask
from service.store.order import EVERYTHING, WorklistQuery, conditions
from service.store.tables import DeliveryRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import LONGEST_UNREAD_S, PARKED, Band, DeliveryStatus, Priority, State, band
from service.why import Why

KEY_PATTERN = "^[a-z2-7]{20}$"  # a study's pseudonym: 20 characters of base32, lower case


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
    """

    rank: int | None
    band: Band
    key: str
    state: State
    reason: str | None
    detail: str
    assessment: Assessment | None
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
    results: tuple[ResultStatus, ...]
    priority: Priority
    why: tuple[Why, ...]
    is_overdue: bool
    identity: ShownIdentity
    seen_at: datetime | None
    seen_by: str | None
    assigned_to: str | None
    feedback: str | None

    @property
    def percentile(self) -> float | None:
        """Normality percentile, or None where nothing was scored."""
        return self.assessment.percentile if self.assessment else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worklist:
    """A page of the list.

    Attributes
    ----------
    rows : tuple of WorklistRow
    total : int
        Studies that the query is about.
    counts : dict of State to int
        All studies by state, every state named.
    next, previous : str or None
        Cursors of the pages after and before this one.
    at : datetime
        When who waits too long was decided, for all pages of one cursor.
    event : int
        Newest change notice before this page was read.
    """

    rows: tuple[WorklistRow, ...]
    total: int
    counts: dict[State, int]
    next: str | None
    previous: str | None
    at: datetime
    event: int


def worklist(
    session: Session,
    query: WorklistQuery = EVERYTHING,
    *,
    cursor: str | None = None,
    limit: int = 200,
    longest_unread_s: float = LONGEST_UNREAD_S,
    masking: Masking = Masking.NONE,
) -> Worklist:
    """Studies in the order a person should look at them.

    Parameters
    ----------
    session : Session
    query : WorklistQuery
    cursor : str, optional
        Of a page before; unset: the first page.
    limit : int
    longest_unread_s : float
        Seconds after which an unseen study is overdue.
    masking : Masking
        How much of an identity each row shows.

    Raises
    ------
    CursorError
        If the cursor was not made here, or for another query.
    """
    offset = int(cursor or 0)
    wanted = conditions(query)
    at = datetime.now(UTC)
    found = session.execute(_listed().where(*wanted).limit(limit).offset(offset)).all()
    rows = _rows(session, found, at - timedelta(seconds=longest_unread_s), masking)
    counted = session.execute(select(StudyRow.state, func.count()).group_by(StudyRow.state))
    counts = dict.fromkeys(State, 0) | dict(counted.all())
    total = session.scalar(select(func.count()).select_from(StudyRow).where(*wanted)) or 0
    return Worklist(
        rows=rows,
        total=total,
        counts=counts,
        next=str(offset + limit) if offset + limit < total else None,
        previous=str(max(offset - limit, 0)) if offset else None,
        at=at,
        event=0,
    )


def worklist_row(
    session: Session,
    key: str,
    *,
    longest_unread_s: float = LONGEST_UNREAD_S,
    masking: Masking = Masking.NONE,
) -> WorklistRow | None:
    """One study as it stands on the list, with its rank there; None where nobody knows the key."""
    cutoff = datetime.now(UTC) - timedelta(seconds=longest_unread_s)
    rows = _rows(session, session.execute(_listed().where(StudyRow.key == key)).all(), cutoff, masking)
    return rows[0] if rows else None


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


def _standing() -> Subquery:
    """Every study with the score that counts, its band and, among the ranked, its rank."""
    latest = (
        select(RevisionRow.study_id, func.max(RevisionRow.number).label("number"))
        .group_by(RevisionRow.study_id)
        .subquery()
    )
    newest = (
        select(RevisionRow.study_id, func.max(ScoreRow.id).label("score_id"))
        .join(latest, and_(RevisionRow.study_id == latest.c.study_id, RevisionRow.number == latest.c.number))
        .join(ScoreRow, ScoreRow.revision_id == RevisionRow.id)
        .group_by(RevisionRow.study_id)
        .subquery()
    )
    # A study that says "scored" while no score stands behind it is a defect a person must see (I7).
    is_empty = and_(
        StudyRow.state == State.SCORED, or_(ScoreRow.p_value.is_(None), ScoreRow.study_score.is_(None))
    )
    is_aside = and_(StudyRow.parked_at.is_not(None), StudyRow.state != State.SCORED)
    bands = case(
        (or_(is_empty, is_aside), Band.UNJUDGED.value),  # nobody will judge it: it may not look calm
        *((StudyRow.state == state, band(state).value) for state in State),
    )
    order = (ScoreRow.p_value, ScoreRow.study_score.desc(), StudyRow.received_at, StudyRow.id)
    rank = func.row_number().over(partition_by=bands, order_by=order)
    return (
        select(
            StudyRow.id.label("study_id"),
            newest.c.score_id,
            bands.label("band"),
            case((bands == Band.RANKED.value, rank)).label("rank"),
        )
        .outerjoin(newest, newest.c.study_id == StudyRow.id)
        .outerjoin(ScoreRow, ScoreRow.id == newest.c.score_id)
        .subquery()
    )


def _listed() -> Select[StudyRow, ScoreRow | None, int, int | None]:
    """Build the whole list, in order."""
    standing = _standing()
    return (
        select(StudyRow, ScoreRow, standing.c.band, standing.c.rank)
        .join(standing, standing.c.study_id == StudyRow.id)
        .outerjoin(ScoreRow, ScoreRow.id == standing.c.score_id)
        .order_by(standing.c.band, standing.c.rank, StudyRow.received_at, StudyRow.id)
    )


def _rows(
    session: Session,
    found: Sequence[Row[StudyRow, ScoreRow | None, int, int | None]],
    cutoff: datetime,
    masking: Masking,
) -> tuple[WorklistRow, ...]:
    """Turn database rows into values, with the results of all of them in one query."""
    results = _results(session, [score.id for _, score, _, _ in found if score is not None])
    return tuple(
        _row(study, score, Band(standing), rank, results[score.id] if score else [], cutoff, masking)
        for study, score, standing, rank in found
    )


def _row(
    study: StudyRow,
    score: ScoreRow | None,
    standing: Band,
    rank: int | None,
    results: list[ResultStatus],
    cutoff: datetime,
    masking: Masking,
) -> WorklistRow:
    waiting_since = study.completed_at or study.last_instance_at
    return WorklistRow(
        rank=rank,
        band=standing,
        key=study.key,
        state=study.state,
        reason=study.reason or (PARKED if study.parked_at and standing is Band.UNJUDGED else None),
        detail=study.detail,
        assessment=assessment_of(score) if score and standing is Band.RANKED else None,
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
        results=tuple(results),
        priority=Priority(study.priority),
        why=(),
        is_overdue=study.seen_at is None and study.received_at <= cutoff,
        identity=mask(None, masking),
        seen_at=study.seen_at.astimezone(UTC) if study.seen_at else None,
        seen_by=study.seen_by,
        assigned_to=study.assigned_to,
        feedback=None,
    )


def _scored_series(score: ScoreRow) -> str:
    """Return the description of the series whose score it is."""
    return next((str(series["description"]) for series in score.series if series.get("is_scored")), "")


def _results(session: Session, score_ids: Sequence[int]) -> dict[int, list[ResultStatus]]:
    """Return results with their deliveries, by score."""
    found = session.execute(
        select(ResultRow.score_id, ResultRow.kind, DeliveryRow.destination, DeliveryRow.status)
        .outerjoin(DeliveryRow, DeliveryRow.result_id == ResultRow.id)
        .where(ResultRow.score_id.in_(score_ids))
        .order_by(ResultRow.id, DeliveryRow.id)
    )
    results: dict[int, list[ResultStatus]] = defaultdict(list)
    for score_id, kind, destination, status in found:
        results[score_id].append(ResultStatus(kind=kind, destination=destination, status=status))
    return results
