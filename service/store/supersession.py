"""Which score of a study counts, and what earlier ones left that its results must contradict.

The newest score of the newest revision counts. No earlier one stores anything once there is a newer one, so
what that finds of them is the same for every worker and at every attempt (I4).
"""

from dataclasses import dataclass

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from dicom_node.kinds import ResultKind, RetractionKind
from service.store.tables import ResultRow, RevisionRow, ScoreRow
from service.study import RetractionState, State

SUPERSEDED = "superseded"  # reason of a score that a newer revision or model made pointless


def is_current(session: Session, score: ScoreRow) -> bool:
    """Whether no newer revision of its study came, and nothing scores, or scored, its own after it."""
    newer, later = aliased(RevisionRow), aliased(ScoreRow)
    revision = score.revision
    is_outdated = session.scalar(
        select(
            or_(
                exists().where(newer.study_id == revision.study_id, newer.number > revision.number),
                exists().where(
                    later.revision_id == revision.id,
                    later.id > score.id,
                    or_(later.state != State.FAILED, later.reason != SUPERSEDED),
                ),
            )
        )
    )
    return not is_outdated


def holds(session: Session, result: ResultRow) -> bool:
    """Whether a result is not outdated: its score counts, and has no report in place of a retraction."""
    if not is_current(session, result.score):
        return False
    return result.kind not in set(RetractionKind) or all(
        other.kind != ResultKind.REPORT for other in result.score.results
    )


def want_retraction(session: Session, score: ScoreRow) -> None:
    """Note that earlier results are to be taken back, for a score that ended without a report of its own."""
    if score.state not in {State.NOT_ASSESSABLE, State.FAILED} or score.retraction is not None:
        return
    if is_current(session, score) and earlier(session, score).reports:
        score.retraction = RetractionState.WANTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What scores before one left of the study.

    Attributes
    ----------
    reports : tuple of ResultRow
        Structured reports, newest first.
    shown_as : str or None
        SOP class of the newest picture, else of another object that shows something; None where nothing does.
    """

    reports: tuple[ResultRow, ...]
    shown_as: str | None

    @property
    def report(self) -> tuple[str, str] | None:
        """SOP class and instance UID of the newest report."""
        newest = next(iter(self.reports), None)
        return None if newest is None else (newest.sop_class_uid, newest.sop_instance_uid)


def earlier(session: Session, score: ScoreRow) -> Earlier:
    """Return what is in archives, or on its way there, that the results of a score supersede."""
    rows = session.scalars(
        select(ResultRow)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .where(
            RevisionRow.study_id == score.revision.study_id,
            # Of its own only what it said when it had failed, before a person gave it another chance.
            or_(ScoreRow.id < score.id, and_(ScoreRow.id == score.id, ResultRow.kind.in_(RetractionKind))),
        )
        .order_by(ResultRow.id.desc())
    ).all()
    reports = tuple(row for row in rows if row.kind in {ResultKind.REPORT, RetractionKind.REPORT})
    shown = [row for row in rows if row not in reports]
    pictures = [row for row in shown if row.kind in {ResultKind.SECONDARY_CAPTURE, RetractionKind.PICTURE}]
    newest = next(iter([*pictures, *shown]), None)
    return Earlier(reports=reports, shown_as=None if newest is None else newest.sop_class_uid)
