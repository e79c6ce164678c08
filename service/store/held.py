"""Where the bytes of listed instances are: in the spool, in a pack, or among the results."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.identity import instance_file_name
from service.store.tables import (
    InstanceRow,
    ListedInstanceRow,
    ListedSeriesRow,
    ResultRow,
    RevisionRow,
    StudyRow,
)
from service.study import PackState, Whereabouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One instance in hand.

    Attributes
    ----------
    study_key : str
    series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid : str
    frames : int
    has_picture : bool
        It states rows and columns.
    file_name : str or None
        Of a received one.
    result_path : str or None
        Of a result.
    sha256 : str
        Of a received one's data set, or a result's whole file; empty where it was damaged on arrival.
    bytes : int
    pack : str or None
        Content hash of the newest pack of the study.
    """

    study_key: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    frames: int
    has_picture: bool
    file_name: str | None
    result_path: str | None
    sha256: str
    bytes: int
    pack: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of something that is not in hand: deleted, when that is known, or never here."""

    is_deleted: bool
    deleted_at: datetime | None = None


def held(
    session: Session, key: str, *, series_uid: str | None = None, sop_instance_uid: str | None = None
) -> tuple[Held, ...]:
    """Instances of a study, of one series, or one of them, as people number them."""
    pack = session.scalar(
        select(RevisionRow.content_hash)
        .join(StudyRow)
        .where(StudyRow.key == key, RevisionRow.pack == PackState.CONFIRMED)
        .order_by(RevisionRow.number.desc())
        .limit(1)
    )
    statement = (
        select(ListedInstanceRow, ListedSeriesRow.series_uid, InstanceRow, ResultRow)
        .join(ListedSeriesRow, ListedSeriesRow.id == ListedInstanceRow.series_id)
        .join(StudyRow, StudyRow.id == ListedInstanceRow.study_id)
        .outerjoin(InstanceRow, InstanceRow.id == ListedInstanceRow.received_id)
        .outerjoin(ResultRow, ResultRow.id == ListedInstanceRow.result_id)
        .where(StudyRow.key == key, StudyRow.bytes_are == Whereabouts.HERE)
        .order_by(
            ListedSeriesRow.number.nulls_last(),
            ListedSeriesRow.id,
            ListedInstanceRow.number.nulls_last(),
            ListedInstanceRow.id,
        )
    )
    if series_uid is not None:
        statement = statement.where(ListedSeriesRow.series_uid == series_uid)
    if sop_instance_uid is not None:
        statement = statement.where(ListedInstanceRow.sop_instance_uid == sop_instance_uid)
    return tuple(
        Held(
            study_key=key,
            series_uid=uid,
            sop_instance_uid=listed.sop_instance_uid,
            sop_class_uid=listed.sop_class_uid,
            transfer_syntax_uid=listed.transfer_syntax_uid,
            frames=listed.frames or 1,
            has_picture=bool(listed.rows and listed.columns),
            file_name=received.file_name if received else None,
            result_path=result.path if result else None,
            sha256=(received or result).sha256,
            bytes=(received or result).bytes,
            pack=pack,
        )
        for listed, uid, received, result in session.execute(statement)
    )


def fate(session: Session, key: str, sop_instance_uid: str | None = None) -> Fate:
    """What became of a study, or of one of its instances, that is not in hand."""
    study = session.execute(
        select(StudyRow.id, StudyRow.bytes_are, StudyRow.deleted_at).where(StudyRow.key == key)
    ).one_or_none()
    if study is None:
        return Fate(is_deleted=False)
    deleted_at = study.deleted_at.astimezone(UTC) if study.deleted_at else None
    if study.bytes_are is not Whereabouts.HERE:
        return Fate(is_deleted=True, deleted_at=deleted_at)
    if sop_instance_uid is None:
        return Fate(is_deleted=False)
    is_deleted = session.scalar(
        select(func.count()).where(
            InstanceRow.study_id == study.id,
            InstanceRow.file_name == instance_file_name(sop_instance_uid),
            InstanceRow.is_deleted,
        )
    )
    return Fate(is_deleted=bool(is_deleted), deleted_at=deleted_at if is_deleted else None)
