"""Result objects as rows, each with its way to every destination."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from dicom_node.web.listing import Listing
from service.store import dicom_index
from service.store.tables import DeliveryRow, ResultRow
from service.study import DeliveryStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """One result object on disk, ready to be delivered."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    path: str
    sha256: str
    bytes: int
    listing: Listing | None = None


def add(
    session: Session,
    study_id: int,
    score_id: int,
    results: Sequence[StoredResult],
    destinations: Callable[[str], Sequence[str]],
) -> list[DeliveryRow]:
    """Add rows of result objects, and one delivery for each and destination; return those."""
    made: list[DeliveryRow] = []
    for result in results:
        row = ResultRow(
            score_id=score_id,
            kind=result.kind,
            sop_class_uid=result.sop_class_uid,
            sop_instance_uid=result.sop_instance_uid,
            path=result.path,
            sha256=result.sha256,
            bytes=result.bytes,
        )
        row.deliveries = [
            DeliveryRow(destination=destination, status=DeliveryStatus.WAITING)
            for destination in destinations(result.kind)
        ]
        session.add(row)
        made += row.deliveries
        if result.listing is not None:
            session.flush()
            dicom_index.note_result(session, study_id, row.id, result.listing)
    session.flush()
    return made
