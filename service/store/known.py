"""Studies as other systems ask for them: by key or identifier, a page at a time, with their newest report."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session

from service.store import reports
from service.store.reports import KnownStudy
from service.store.tables import IdentityRow, InstanceRow, RevisionRow, ScoreRow, StudyRow


def known_studies(
    session: Session,
    *,
    conditions: Sequence[ColumnElement[bool]] = (),
    before: int | None = None,
    limit: int,
    judged: bool,
) -> tuple[KnownStudy, ...]:
    """Studies, the last registered first.

    Parameters
    ----------
    conditions : sequence
        As `with_key` and `with_identifier` build them.
    before : int, optional
        Only studies with a smaller number.
    limit : int
    judged : bool
        Whether only those of which there is a score, though it may still wait.
    """
    instances = (
        select(func.count()).where(InstanceRow.study_id == StudyRow.id, ~InstanceRow.is_own).scalar_subquery()
    )
    query = select(StudyRow, instances).where(*conditions).order_by(StudyRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(StudyRow.id < before)
    if judged:
        query = query.where(
            exists(ScoreRow.id)
            .where(ScoreRow.revision_id == RevisionRow.id, RevisionRow.study_id == StudyRow.id)
            .correlate(StudyRow)
        )
    return tuple(
        KnownStudy(
            key=study.key,
            number=study.id,
            modality=study.modality,
            instances=count,
            is_complete=not study.is_pending,
            report=reports.newest_report(session, study.key),
        )
        for study, count in session.execute(query)
    )


def with_key(key: str) -> ColumnElement[bool]:
    """Build the condition for one study."""
    return StudyRow.key == key


def with_identifier(
    *, study_uid: str | None = None, accession_number: str | None = None
) -> ColumnElement[bool]:
    """Build the condition for the studies of a Study Instance UID or an accession number."""
    wanted = [
        column == value
        for column, value in (
            (IdentityRow.study_uid, study_uid),
            (IdentityRow.accession_number, accession_number),
        )
        if value is not None
    ]
    return StudyRow.id.in_(select(IdentityRow.study_id).where(or_(*wanted)))
