"""Files of the spool as arrivals: what the rows of an instance say, read with no trust in what it claims."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy.orm import Session

from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import device_uid, series_key
from dicom_node.keys import ReceivedHeader
from dicom_node.spool import SpooledInstance
from dicom_node.web.listing import Listing, listing_of
from service.store import studies
from service.store.studies import Arrival

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """One file of the spool with what it says; neither where the disk damaged it after it was received."""

    instance: SpooledInstance
    header: ReceivedHeader | None
    sha256: str
    listing: Listing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What tells our own results, come back from an archive, from what is to be scored (I8).

    Attributes
    ----------
    uids : frozenset of str
        Of results this site has made, among those that were asked about.
    devices : frozenset of str
        Device UIDs of every model that has scored here.
    """

    uids: frozenset[str]
    devices: frozenset[str]

    def has(self, header: ReceivedHeader) -> bool:
        """Whether an object is ours: one mark is enough, for an archive may rewrite the others."""
        return (
            header.is_own
            or header.sop_instance_uid in self.uids
            or not self.devices.isdisjoint(header.device_uids)
        )


def read(instance: SpooledInstance) -> Found:
    """Read one file; a damaged one is told, and has neither header nor hash."""
    try:
        with instance.path.open("rb") as file:
            listing = listing_of(file)
        return Found(instance, instance.header(), instance.sha256(), listing)
    except (UnreadableInstanceError, OSError):
        log.exception("instance damaged on disk", study=instance.path.parent.name, file=instance.file_name)
        return Found(instance, None, "")


def ours_among(session: Session, found: Iterable[Found], model_hash: str) -> Ours:
    """Ask what of some files may be ours."""
    uids = [one.header.sop_instance_uid for one in found if one.header is not None]
    models = studies.known_models(session) | {model_hash}
    return Ours(
        uids=studies.own_results_among(session, uids),
        devices=frozenset(device_uid(model) for model in models),
    )


def arrivals_of(found: Sequence[Found], ours: Ours, key_of: Callable[[str], str]) -> list[Arrival]:
    """Files as arrivals.

    Parameters
    ----------
    key_of : callable
        Pseudonym of anything.
    """
    return [_arrival(one, ours, key_of) for one in found]


def _arrival(found: Found, ours: Ours, key_of: Callable[[str], str]) -> Arrival:
    header = found.header
    return Arrival(
        file_name=found.instance.file_name,
        sha256=found.sha256,
        bytes=found.instance.size_bytes,
        sop_class_uid=header.sop_class_uid if header else "",
        is_own=header is not None and ours.has(header),
        sender=header.sender if header else "",
        received_at=datetime.fromtimestamp(found.instance.mtime_ns / 1e9, UTC),
        modality=header.modality if header else "",
        description=header.study_description if header else "",
        series=series_key(header.series_uid) if header else "",
        patient=_pseudonyms(header.patient, key_of) if header else "",
    )


def _pseudonyms(patient: tuple[str, ...], key_of: Callable[[str], str]) -> str:
    """What says who the patient is, as marks that can be compared and not read."""
    marks = [key_of(f"patient {number} {value}") if value else "" for number, value in enumerate(patient)]
    return ".".join(marks) if any(marks) else ""
