"""A sender that alters nothing: the data set of a file goes out byte for byte, whatever it holds."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.filereader import _read_file_meta_info, read_preamble
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class RawInstance:
    """A file as its file meta describes it, and the bytes behind that."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    content: bytes


def read_raw(path: Path) -> RawInstance | None:
    """Return what would be sent, or None where class, UID or syntax cannot be read."""
    stream = BytesIO(path.read_bytes())
    try:
        if read_preamble(stream, force=False) is None:
            return None
        meta = _read_file_meta_info(stream)
        instance = RawInstance(
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
            stream.read(),
        )
        _primitive(instance)
    except Exception:  # noqa: BLE001 - whatever a damaged file meta raises, it cannot be sent
        return None
    return instance if instance.content else None


def send_raw(instance: RawInstance, port: int, *, called: str, calling: str) -> int | None:
    """Send one instance; return its status, or None where its class or syntax was not accepted."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_S
    entity.add_requested_context(instance.sop_class_uid, instance.transfer_syntax_uid)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return None
    association._reactor_checkpoint.clear()
    try:
        context = association.accepted_contexts[0]
        association.dimse.send_msg(_primitive(instance), context.context_id)
        _, answer = association.dimse.get_msg(block=True)
        assert answer is not None, "no answer"
        return int(answer.Status)
    finally:
        association._reactor_checkpoint.set()
        association.release()


def _primitive(instance: RawInstance) -> C_STORE:
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = instance.sop_class_uid
    request.AffectedSOPInstanceUID = instance.sop_instance_uid
    request.Priority = 2
    request.DataSet = BytesIO(instance.content)
    assert request.is_valid_request
    return request
