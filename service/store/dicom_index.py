"""What DICOMweb searches, written with the rows of the instances it speaks of, and gone with their bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import delete, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dicom_node.web.listing import Listing
from service.store.tables import (
    InstanceRow,
    ListedInstanceRow,
    ListedSeriesRow,
    ListedStudyRow,
    StudyRow,
)

_OF_INSTANCE = (
    "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "frames", "rows", "columns", "bits_allocated",
)  # fmt: skip


def note_received(session: Session, key: str, found: Mapping[str, Listing]) -> None:
    """List received instances by their file names; those without a row, or listed before, change nothing."""
    rows = session.execute(
        select(InstanceRow.study_id, InstanceRow.id, InstanceRow.file_name)
        .join(StudyRow)
        .where(StudyRow.key == key, InstanceRow.file_name.in_(found))
    ).all()
    if not rows:
        return
    study_id = rows[0].study_id
    _note(session, study_id, [(found[name], {"received_id": number}) for _, number, name in rows])


def note_result(session: Session, study_id: int, result_id: int, listing: Listing) -> None:
    """List a result; of one that came back from an archive this is the copy that counts."""
    session.execute(
        delete(ListedInstanceRow).where(
            ListedInstanceRow.study_id == study_id,
            ListedInstanceRow.sop_instance_uid == listing.sop_instance_uid,
        )
    )
    _note(session, study_id, [(listing, {"result_id": result_id})])


def forget(session: Session, study_id: int) -> None:
    """Remove what was listed of a study but what came again since its deletion was decided."""
    deleted = select(InstanceRow.id).where(InstanceRow.study_id == study_id, InstanceRow.is_deleted)
    session.execute(
        delete(ListedInstanceRow).where(
            ListedInstanceRow.study_id == study_id,
            or_(ListedInstanceRow.result_id.is_not(None), ListedInstanceRow.received_id.in_(deleted)),
        )
    )
    holds_instances = exists().where(ListedInstanceRow.series_id == ListedSeriesRow.id)
    session.execute(delete(ListedSeriesRow).where(ListedSeriesRow.study_id == study_id, ~holds_instances))
    holds_series = exists().where(ListedSeriesRow.study_id == ListedStudyRow.study_id)
    session.execute(delete(ListedStudyRow).where(ListedStudyRow.study_id == study_id, ~holds_series))


def _note(session: Session, study_id: int, found: Sequence[tuple[Listing, Mapping[str, int]]]) -> None:
    listings = [listing for listing, _ in found]
    _note_study(session, study_id, listings[0])
    series = _note_series(session, study_id, listings)
    session.execute(
        insert(ListedInstanceRow)
        .values(
            [
                {
                    "study_id": study_id,
                    "series_id": series[listing.series_uid],
                    "received_id": None,
                    "result_id": None,
                    "number": listing.instance_number,
                    **{name: getattr(listing, name) for name in _OF_INSTANCE},
                    **place,
                }
                for listing, place in found
            ]
        )
        .on_conflict_do_nothing(index_elements=["study_id", "sop_instance_uid"])
    )


def _note_study(session: Session, study_id: int, listing: Listing) -> None:
    """What was said first stays; what was left out is filled."""
    values = {
        "date": listing.study_date,
        "time": listing.study_time,
        "number": listing.study_number,
        "referring_physician": listing.referring_physician,
    }
    added = insert(ListedStudyRow).values(study_id=study_id, **values)
    kept = {
        name: func.coalesce(func.nullif(getattr(ListedStudyRow, name), ""), added.excluded[name])
        for name in values
    }
    session.execute(added.on_conflict_do_update(index_elements=["study_id"], set_=kept))


def _note_series(session: Session, study_id: int, listings: Sequence[Listing]) -> dict[str, int]:
    """Id of each series by its UID."""
    first = {listing.series_uid: asdict(listing) for listing in reversed(listings)}
    session.execute(
        insert(ListedSeriesRow)
        .values(
            [
                {
                    "study_id": study_id,
                    "series_uid": one["series_uid"],
                    "modality": one["modality"],
                    "number": one["series_number"],
                    "description": one["series_description"],
                    "body_part": one["body_part"],
                    "began_date": one["began_date"],
                    "began_time": one["began_time"],
                }
                for one in first.values()
            ]
        )
        .on_conflict_do_nothing(index_elements=["study_id", "series_uid"])
    )
    rows = session.execute(
        select(ListedSeriesRow.series_uid, ListedSeriesRow.id).where(
            ListedSeriesRow.study_id == study_id, ListedSeriesRow.series_uid.in_(first)
        )
    )
    return {uid: number for uid, number in rows}  # noqa: C416 - rows are not pairs to dict()
