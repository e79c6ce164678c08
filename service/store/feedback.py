"""What readers say of studies: append-only, each verdict with the numbers it judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.errors import ConflictError, TriageError
from service.store import audit, shown, studies
from service.store.among import among
from service.store.paging import Page, Place, read_page
from service.store.tables import FeedbackRow, RevisionRow, ScoreRow, StudyRow
from service.store.versions import is_newest_version, newest
from service.study import Conspicuity, State, Verdict

LONGEST_NOTE = 1000  # characters
MOST_OF_A_STUDY = 500


class UnknownFeedbackError(TriageError):
    """The study has no feedback of this number. List what it has at its address."""


class ForeignFeedbackError(TriageError):
    """Only who gave a verdict corrects it. Give one of your own."""


class NoSuchPlaceError(TriageError):
    """The score has no such region or slice. Count both from 0, as the study shows them."""


class TooMuchFeedbackError(TriageError):
    """The study has more feedback than anybody reads. Correct what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a reader says.

    Attributes
    ----------
    verdict : Verdict
    note : str
        In their words; may name a patient, so it stays in its table.
    region : int or None
        Index among the regions of the score.
    slice_index : int or None
        Frame of the heatmap.
    conspicuity : Conspicuity or None
        How easily a confirmed finding is seen; of nothing else.
    """

    verdict: Verdict
    note: str = ""
    region: int | None = None
    slice_index: int | None = None
    conspicuity: Conspicuity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """An opinion, and what it was about.

    Attributes
    ----------
    key : str
        Of the study.
    number : int
        Within the study, from 1.
    version : int
        From 1; each correction is one more.
    by : str
    at : datetime
        Of this version.
    state : State
        Of the study when it was judged.
    is_current : bool
        What it judged still counts.
    revision : int or None
    model_hash, calibration_hash : str or None
    study_score, percentile : float or None
        What Vigil had said; None where it had said nothing.
    """

    key: str
    number: int
    version: int
    verdict: Verdict
    note: str
    region: int | None
    slice_index: int | None
    conspicuity: Conspicuity | None
    by: str
    at: datetime
    state: State
    is_current: bool
    revision: int | None
    model_hash: str | None
    calibration_hash: str | None
    study_score: float | None
    percentile: float | None


def give(
    session: Session,
    key: str,
    opinion: Opinion,
    *,
    actor: str,
    revision: int | None = None,
    score: str | None = None,
) -> Feedback:
    """Store what a reader says of a study as it stands.

    Parameters
    ----------
    revision, score : optional
        What was on the screen (`service.store.shown.require`).

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    RevisionChangedError, ScoreChangedError
        If something else counts now.
    NoSuchPlaceError
        If the score has no such region or slice.
    TooMuchFeedbackError
        If the study has `MOST_OF_A_STUDY` already.
    """
    study = studies.locked(session, key)
    current = shown.require(session, study, revision=revision, score=score)
    judged = _judged(session, study)
    _require_place(opinion, judged)
    last = session.scalar(select(func.max(FeedbackRow.number)).where(FeedbackRow.study_id == study.id)) or 0
    if last >= MOST_OF_A_STUDY:
        raise TooMuchFeedbackError(TooMuchFeedbackError.__doc__)
    is_scored = judged is not None and judged.state is State.SCORED and study.state is State.SCORED
    row = FeedbackRow(
        study_id=study.id,
        number=last + 1,
        version=1,
        verdict=opinion.verdict,
        note=opinion.note,
        region=opinion.region,
        slice_index=opinion.slice_index,
        conspicuity=opinion.conspicuity,
        by=actor,
        at=datetime.now(UTC),
        score_id=judged.id if judged else None,
        revision=current,
        state=study.state,
        model_hash=judged.model_hash if judged else None,
        calibration_hash=judged.calibration_hash if judged and is_scored else None,
        study_score=judged.study_score if judged and is_scored else None,
        percentile=100.0 * judged.p_value if judged and is_scored and judged.p_value is not None else None,
    )
    return _stored(session, key, row, "feedback.given")


def correct(
    session: Session, key: str, number: int, opinion: Opinion, *, actor: str, versions: frozenset[int] | None
) -> Feedback:
    """Store another version of what a reader said; it judges what the first one judged.

    Parameters
    ----------
    versions : frozenset of int or None
        What the caller saw; None: whatever it is now.

    Raises
    ------
    UnknownStudyError, UnknownFeedbackError
        If there is no such study, or no such feedback of it.
    ForeignFeedbackError
        If another person gave it.
    ConflictError
        If it was corrected since.
    NoSuchPlaceError
        If the score has no such region or slice.
    """
    study = studies.locked(session, key)
    before = _newest(session, study.id, number)
    if before.by != actor:
        raise ForeignFeedbackError(ForeignFeedbackError.__doc__)
    if versions is not None and before.version not in versions:
        raise ConflictError(ConflictError.__doc__)
    _require_place(opinion, session.get(ScoreRow, before.score_id) if before.score_id else None)
    row = FeedbackRow(
        study_id=study.id,
        number=number,
        version=before.version + 1,
        verdict=opinion.verdict,
        note=opinion.note,
        region=opinion.region,
        slice_index=opinion.slice_index,
        conspicuity=opinion.conspicuity,
        by=actor,
        at=datetime.now(UTC),
        score_id=before.score_id,
        revision=before.revision,
        state=before.state,
        model_hash=before.model_hash,
        calibration_hash=before.calibration_hash,
        study_score=before.study_score,
        percentile=before.percentile,
    )
    return _stored(session, key, row, "feedback.corrected")


def one(session: Session, key: str, number: int) -> Feedback:
    """Return the newest version of one feedback.

    Raises
    ------
    UnknownStudyError, UnknownFeedbackError
        If there is no such study, or no such feedback of it.
    """
    return _feedback(session, _newest(session, studies.id_of(session, key), number))


def of_study(session: Session, key: str) -> tuple[Feedback, ...]:
    """Return what was said of a study, each in its newest version, newest first.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    rows = session.scalars(
        select(FeedbackRow)
        .where(FeedbackRow.study_id == studies.id_of(session, key), is_newest_version(FeedbackRow))
        .order_by(FeedbackRow.number.desc())
    )
    return tuple(_feedback(session, row) for row in rows)


def listed(
    session: Session,
    place: Place,
    *,
    study: str | None = None,
    verdict: Verdict | None = None,
    by: str | None = None,
    model: str | None = None,
) -> Page[Feedback]:
    """Return feedback on all studies in its newest version, newest first.

    Raises
    ------
    CursorError
        If the cursor is not one of this listing.
    """
    filters = (
        (StudyRow.key, study),
        (FeedbackRow.verdict, verdict),
        (FeedbackRow.by, by),
        (FeedbackRow.model_hash, model),
    )
    query = (
        select(FeedbackRow, StudyRow, FeedbackRow.id)
        .join(StudyRow, StudyRow.id == FeedbackRow.study_id)
        .where(
            is_newest_version(FeedbackRow),
            *(column == value for column, value in filters if value is not None),
        )
    )
    page = read_page(session, query, [FeedbackRow.id], place)
    items = tuple(_feedback(session, row) for row, _, _ in page.items)
    return Page(items=items, next=page.next, previous=page.previous)


def newest_verdicts(session: Session, study_ids: Sequence[int]) -> dict[int, Verdict]:
    """Return what was said last of each of some studies; those of which nothing was said are left out."""
    last = (
        select(func.max(FeedbackRow.id).label("id"))
        .where(among(FeedbackRow.study_id, study_ids))
        .group_by(FeedbackRow.study_id)
        .subquery()
    )
    rows = session.execute(
        select(FeedbackRow.study_id, FeedbackRow.verdict).join(last, last.c.id == FeedbackRow.id)
    )
    return {study_id: verdict for study_id, verdict in rows}  # noqa: C416 - rows are not pairs to dict()


def _judged(session: Session, study: StudyRow) -> ScoreRow | None:
    """Score that counts: the newest of the newest revision."""
    revision_id = (
        select(RevisionRow.id)
        .where(RevisionRow.study_id == study.id)
        .order_by(RevisionRow.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    return session.scalar(
        select(ScoreRow).where(ScoreRow.revision_id == revision_id).order_by(ScoreRow.id.desc()).limit(1)
    )


def _require_place(opinion: Opinion, score: ScoreRow | None) -> None:
    regions, slices = (len(score.regions), score.pictures) if score else (0, 0)
    if (opinion.region is not None and opinion.region >= regions) or (
        opinion.slice_index is not None and opinion.slice_index >= slices
    ):
        raise NoSuchPlaceError(NoSuchPlaceError.__doc__)


def _newest(session: Session, study_id: int, number: int) -> FeedbackRow:
    row = newest(session, FeedbackRow, study_id, number)
    if row is None:
        raise UnknownFeedbackError(UnknownFeedbackError.__doc__)
    return row


def _stored(session: Session, key: str, row: FeedbackRow, action: str) -> Feedback:
    session.add(row)
    session.flush()
    audit.append(
        session,
        action,
        actor=row.by,
        study_key=key,
        number=row.number,
        version=row.version,
        verdict=row.verdict.value,
        conspicuity=row.conspicuity,
        revision=row.revision,
        model_hash=row.model_hash,
        percentile=row.percentile,
    )
    return _feedback(session, row)


def _feedback(session: Session, row: FeedbackRow) -> Feedback:
    study = session.get_one(StudyRow, row.study_id)  # of a whole list they are read with it
    return Feedback(
        key=study.key,
        number=row.number,
        version=row.version,
        verdict=row.verdict,
        note=row.note,
        region=row.region,
        slice_index=row.slice_index,
        conspicuity=None if row.conspicuity is None else Conspicuity(row.conspicuity),
        by=row.by,
        at=row.at.astimezone(UTC),
        state=row.state,
        is_current=(row.score_id, row.state) == (study.score_id, study.state),
        revision=row.revision,
        model_hash=row.model_hash,
        calibration_hash=row.calibration_hash,
        study_score=row.study_score,
        percentile=row.percentile,
    )
