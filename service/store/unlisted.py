"""Instances in hand that no DICOMweb search finds yet: those from before there was an index."""

from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, aliased

from service.store.held import Held
from service.store.tables import InstanceRow, ListedInstanceRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import PackState, Whereabouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlisted:
    """One of them.

    Attributes
    ----------
    id : int
        Of its row; later ones are larger.
    study_id : int
    held : Held
        Where its bytes are; what they say is not known.
    """

    id: int
    study_id: int
    held: Held


def received(session: Session, *, after: int, limit: int) -> tuple[Unlisted, ...]:
    """Received ones; one of our own that came back is listed as the result it is."""
    newest = aliased(RevisionRow)
    number = (
        select(func.max(newest.number))
        .where(newest.study_id == StudyRow.id, newest.pack == PackState.CONFIRMED)
        .scalar_subquery()
    )
    rows = session.execute(
        select(InstanceRow, StudyRow.key, RevisionRow.content_hash)
        .join(StudyRow, StudyRow.id == InstanceRow.study_id)
        .outerjoin(RevisionRow, (RevisionRow.study_id == StudyRow.id) & (RevisionRow.number == number))
        .where(
            InstanceRow.id > after,
            StudyRow.bytes_are == Whereabouts.HERE,
            ~InstanceRow.is_deleted,
            ~InstanceRow.is_own,
            InstanceRow.sop_class_uid != "",  # else it was damaged before it had a row
            ~exists().where(ListedInstanceRow.received_id == InstanceRow.id),
        )
        .order_by(InstanceRow.id)
        .limit(limit)
    )
    return tuple(
        Unlisted(
            id=row.id,
            study_id=row.study_id,
            held=_held(key, row.sha256, row.bytes, file_name=row.file_name, pack=pack),
        )
        for row, key, pack in rows
    )


def results(session: Session, *, after: int, limit: int) -> tuple[Unlisted, ...]:
    """Results."""
    rows = session.execute(
        select(ResultRow, StudyRow.id, StudyRow.key)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            ResultRow.id > after,
            StudyRow.bytes_are == Whereabouts.HERE,
            ~exists().where(ListedInstanceRow.result_id == ResultRow.id),
        )
        .order_by(ResultRow.id)
        .limit(limit)
    )
    return tuple(
        Unlisted(id=row.id, study_id=study, held=_held(key, row.sha256, row.bytes, result_path=row.path))
        for row, study, key in rows
    )


def _held(
    key: str,
    sha256: str,
    size: int,
    *,
    file_name: str | None = None,
    result_path: str | None = None,
    pack: str | None = None,
) -> Held:
    return Held(
        study_key=key,
        series_uid="",
        sop_instance_uid="",
        sop_class_uid="",
        transfer_syntax_uid="",
        frames=1,
        has_picture=False,
        file_name=file_name,
        result_path=result_path,
        sha256=sha256,
        bytes=size,
        pack=pack,
    )
