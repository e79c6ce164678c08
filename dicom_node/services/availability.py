"""Instance Availability Notification, answering side (PS3.4 R.3): an archive says what it has of a study."""

import hashlib

from pydicom.dataset import Dataset

from dicom_node.identity import instance_file_name, is_uid
from dicom_node.services.association import SUCCESS
from dicom_node.signals import Signal, SignalKind, Signals
from dicom_node.spool import Spool

ONLINE = "ONLINE"
MISSING_ATTRIBUTE = 0x0120  # PS3.7 annex C


def notify(attributes: Dataset, spool: Spool, signals: Signals) -> int:
    """N-CREATE: keep which instances of a study are available; return the status.

    The notification is final where every instance it lists is online.
    """
    study = str(attributes.get("StudyInstanceUID", ""))
    references = _references(attributes)
    if not is_uid(study) or not references:
        return MISSING_ATTRIBUTE
    names = sorted(instance_file_name(str(reference.ReferencedSOPInstanceUID)) for reference in references)
    # The notification has a UID only where the peer gives one; the same list is the same notification.
    identity = hashlib.sha256("\n".join(names).encode()).hexdigest()
    signals.put(
        spool.key_of(study),
        identity,
        Signal(kind=SignalKind.AVAILABILITY, is_final=is_online(attributes), instances=frozenset(names)),
    )
    return SUCCESS


def is_online(attributes: Dataset) -> bool:
    """Whether every instance a notification lists can be had at once."""
    return all(
        str(reference.get("InstanceAvailability", "")) == ONLINE for reference in _references(attributes)
    )


def _references(attributes: Dataset) -> list[Dataset]:
    return [
        reference
        for series in attributes.get("ReferencedSeriesSequence") or ()
        for reference in series.get("ReferencedSOPSequence") or ()
        if reference.get("ReferencedSOPInstanceUID")
    ]
