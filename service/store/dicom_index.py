"""What DICOMweb searches, written with the rows of the instances it speaks of, and gone with their bytes."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dicom_node.web.listing import Listing
from service.store.among import among
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
    if rows:
        received = [(found[name], number) for _, number, name in rows]
        note_all_received(session, {rows[0].study_id: received})


def note_all_received(session: Session, found: Mapping[int, Sequence[tuple[Listing, int]]]) -> None:
    """List instances of some studies, each with the number of its row, by the number of the study's."""
    _note(
        session,
        {
            study_id: [(listing, {"received_id": number}) for listing, number in listed]
            for study_id, listed in found.items()
        },
    )


def note_result(session: Session, study_id: int, result_id: int, listing: Listing) -> None:
    """List a result; of one that came back from an archive this is the copy that counts."""
    session.execute(
        delete(ListedInstanceRow).where(
            ListedInstanceRow.study_id == study_id,
            ListedInstanceRow.sop_instance_uid == listing.sop_instance_uid,
        )
    )
    _note(session, {study_id: [(listing, {"result_id": result_id})]})


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


def _note(session: Session, found: Mapping[int, Sequence[tuple[Listing, Mapping[str, int]]]]) -> None:
    _note_studies(session, {study_id: listed[0][0] for study_id, listed in found.items()})
    series = _note_series(
        session, {study_id: [listing for listing, _ in listed] for study_id, listed in found.items()}
    )
    session.execute(
        insert(ListedInstanceRow).on_conflict_do_nothing(index_elements=["study_id", "sop_instance_uid"]),
        [
            {
                "study_id": study_id,
                "series_id": series[study_id, listing.series_uid],
                "received_id": None,
                "result_id": None,
                "number": listing.instance_number,
                **{name: getattr(listing, name) for name in _OF_INSTANCE},
                **place,
            }
            for study_id, listed in found.items()
            for listing, place in listed
        ],
    )


def _note_studies(session: Session, found: Mapping[int, Listing]) -> None:
    """What was said first stays; what was left out is filled."""
    added = insert(ListedStudyRow)
    kept = {
        name: func.coalesce(func.nullif(getattr(ListedStudyRow, name), ""), added.excluded[name])
        for name in ("date", "time", "number", "referring_physician")
    }
    session.execute(
        added.on_conflict_do_update(index_elements=["study_id"], set_=kept),
        [
            {
                "study_id": study_id,
                "date": listing.study_date,
                "time": listing.study_time,
                "number": listing.study_number,
                "referring_physician": listing.referring_physician,
            }
            for study_id, listing in found.items()
        ],
    )


def _note_series(session: Session, found: Mapping[int, Sequence[Listing]]) -> dict[tuple[int, str], int]:
    """Id of each series by its study and its UID."""
    first = {
        (study_id, listing.series_uid): listing
        for study_id, listings in found.items()
        for listing in reversed(listings)
    }
    session.execute(
        insert(ListedSeriesRow).on_conflict_do_nothing(index_elements=["study_id", "series_uid"]),
        [
            {
                "study_id": study_id,
                "series_uid": series_uid,
                "modality": one.modality,
                "number": one.series_number,
                "description": one.series_description,
                "body_part": one.body_part,
                "began_date": one.began_date,
                "began_time": one.began_time,
            }
            for (study_id, series_uid), one in first.items()
        ],
    )
    rows = session.execute(
        select(ListedSeriesRow.study_id, ListedSeriesRow.series_uid, ListedSeriesRow.id).where(
            among(ListedSeriesRow.study_id, list(found))
        )
    )
    return {(study_id, uid): number for study_id, uid, number in rows}
