"""The sending application entity: files to a storage SCP, one receipt each.

Each file's own transfer syntax is proposed in a context of its own, and beside it the two native ones: what
the destination accepts decides whether bytes go out as they are or are transcoded.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRBigEndian
from pynetdicom import build_context
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import Verification

from dicom_node.caller import Caller
from dicom_node.contexts import NATIVE
from dicom_node.elements import read_file_meta, text_of
from dicom_node.errors import (
    DeliveryError,
    DestinationBusyError,
    DestinationRefusedError,
    SopClassRefusedError,
    UnreadableInstanceError,
)
from dicom_node.identity import is_uid
from dicom_node.keys import (
    MEDIA_SOP_CLASS_UID,
    MEDIA_SOP_INSTANCE_UID,
    TRANSFER_SYNTAX_UID,
)
from dicom_node.line import Line
from dicom_node.peer import Certificate, Timeouts
from dicom_node.services.association import association

MOST_CONTEXTS = 128  # context ids are odd numbers below 256 (PS3.8 9.3.2.2)

SUCCESS = 0x0000
_WARNINGS = (0xB000, 0xB006, 0xB007)  # stored: with coercion, elements discarded, other class (PS3.4 B.2.3)
_TEMPORARY = (0x0110, 0x0213)  # processing failure, resource limitation (PS3.7 annex C)
_BAD_DATA = (AttributeError, LookupError, NotImplementedError, TypeError, ValueError, InvalidDicomError)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the destination answered to one file.

    Attributes
    ----------
    path : Path
    status : int or None
        DIMSE status; None where there was no answer.
    error : DeliveryError or None
        None exactly where the destination holds the object.
    """

    path: Path
    status: int | None
    error: DeliveryError | None

    @property
    def is_stored(self) -> bool:
        """Whether the destination holds the object."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class _Outgoing:
    path: Path
    sop_class: str
    sop_instance: str
    syntax: str
    start: int  # of the data set

    def contexts(self) -> set[tuple[str, str]]:
        """Class and syntax of every context that may carry the file."""
        return {(self.sop_class, self.syntax), *((self.sop_class, str(native)) for native in NATIVE)}


def send_files(
    paths: Sequence[Path],
    *,
    host: str,
    port: int,
    calling_aet: str,
    called_aet: str,
    timeouts: Timeouts | None = None,
    certificate: Certificate | None = None,
) -> Iterator[Receipt]:
    """Send files by C-STORE; receipts come one by one, in the order of the files.

    Parameters
    ----------
    paths : sequence of Path
        DICOM Part 10 files.
    host : str
    port : int
    calling_aet, called_aet : str
    timeouts : Timeouts, optional
    certificate : Certificate, optional
        Files go over TLS where it names our own.

    Yields
    ------
    Receipt
        Nothing is raised for a file or a destination: the receipt says what happened.
    """
    line = Line(
        host=host,
        port=port,
        calling_aet=calling_aet,
        called_aet=called_aet,
        timeouts=timeouts or Timeouts(),
        certificate=certificate,
    )
    for batch in _batches(paths):
        yield from _send_batch(batch, line)


def verify(line: Line) -> None:
    """Ask whether the peer is alive: C-ECHO.

    Raises
    ------
    DestinationBusyError
        If it does not answer, or rejects the association.
    DestinationRefusedError
        If it offers no verification, or answers with a failure.
    """
    with association(line, [build_context(Verification, list(NATIVE))]) as opened:
        answer = opened.send_c_echo()
    error = _error_of(answer.get("Status"))
    if error is not None:
        raise error


def _batches(paths: Sequence[Path]) -> Iterator[list[_Outgoing | Receipt]]:
    """Files that fit into one association, in order; a file that cannot be sent has its receipt already."""
    batch: list[_Outgoing | Receipt] = []
    contexts: set[tuple[str, str]] = set()
    for path in paths:
        outgoing = _examine(path)
        wanted = outgoing.contexts() if isinstance(outgoing, _Outgoing) else set()
        if len(contexts | wanted) > MOST_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(outgoing)
        contexts |= wanted
    if batch:
        yield batch


def _examine(path: Path) -> _Outgoing | Receipt:
    try:
        with path.open("rb") as file:
            meta = read_file_meta(file)
            start = file.tell()
    except (UnreadableInstanceError, OSError):
        return _unsendable(path, "The file cannot be read as DICOM; it was not sent.")
    sop_class, sop_instance, syntax = (
        text_of(meta, tag) for tag in (MEDIA_SOP_CLASS_UID, MEDIA_SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID)
    )
    if not all(is_uid(uid) for uid in (sop_class, sop_instance, syntax)):
        return _unsendable(path, "The file meta information lacks a proper UID; the file was not sent.")
    return _Outgoing(path, sop_class, sop_instance, syntax, start)


def _unsendable(path: Path, why: str) -> Receipt:
    return Receipt(path=path, status=None, error=DestinationRefusedError(why))


def _send_batch(batch: Sequence[_Outgoing | Receipt], line: Line) -> Iterator[Receipt]:
    files = [item for item in batch if isinstance(item, _Outgoing)]
    if not files:
        yield from (item for item in batch if isinstance(item, Receipt))
        return
    with ExitStack() as stack:
        contexts = set().union(*(file.contexts() for file in files))
        try:
            caller = stack.enter_context(Caller.call(line, contexts))
        except DeliveryError as error:
            for item in batch:
                yield item if isinstance(item, Receipt) else Receipt(path=item.path, status=None, error=error)
            return
        for item in batch:
            yield item if isinstance(item, Receipt) else _send(caller, item)


def _send(caller: Caller, file: _Outgoing) -> Receipt:
    try:
        status = _store(caller, file)
    except DeliveryError as error:
        return Receipt(path=file.path, status=error.status, error=error)
    except _BAD_DATA:
        # The cause may quote the data set, so it is not carried on (I9).
        return _unsendable(file.path, "The file cannot be encoded for this destination; it was not sent.")
    except (RuntimeError, OSError):
        return Receipt(
            path=file.path, status=None, error=DestinationBusyError("The association ended early.")
        )
    return Receipt(path=file.path, status=status, error=_error_of(status))


def _store(caller: Caller, file: _Outgoing) -> int:
    context_id = caller.accepted.get((file.sop_class, file.syntax))
    if context_id is not None:  # the bytes of the file, as they are
        return caller.store_file(
            file.path,
            file.start,
            context_id=context_id,
            sop_class=file.sop_class,
            sop_instance=file.sop_instance,
        )
    for native in NATIVE:
        context_id = caller.accepted.get((file.sop_class, str(native)))
        if context_id is not None:
            data = encode(_native(file), native.is_implicit_VR, native.is_little_endian)
            if data is None:
                raise ValueError("not encoded")
            return caller.store_bytes(
                data, context_id=context_id, sop_class=file.sop_class, sop_instance=file.sop_instance
            )
    raise SopClassRefusedError("The destination does not accept this SOP class.")


def _native(file: _Outgoing) -> Dataset:
    """Data set with native pixels. Lossless, so the instance keeps its UID."""
    if file.syntax == ExplicitVRBigEndian:
        raise DestinationRefusedError("The destination does not accept big endian, the file's syntax.")
    dataset = dcmread(file.path)
    if UID(file.syntax).is_compressed:
        try:
            dataset.decompress(generate_instance_uid=False)
        except RuntimeError:
            raise DestinationRefusedError(
                "The destination needs native pixels; these cannot be decoded."
            ) from None
    return dataset


def _error_of(status: int | None) -> DeliveryError | None:
    """Error behind a status (PS3.4 table B.2-1, PS3.7 annex C); None where the object is stored."""
    if status is None:
        return DestinationBusyError("The destination did not answer.")
    if status == SUCCESS or status in _WARNINGS:
        return None
    if status & 0xFF00 == 0xA700:  # noqa: PLR2004 - out of resources, whatever the last digits say
        return DestinationBusyError("The destination is out of resources.", status)
    if status in _TEMPORARY:
        return DestinationBusyError("The destination failed to process the object.", status)
    return DestinationRefusedError(f"The destination refused the object with status 0x{status:04X}.", status)
