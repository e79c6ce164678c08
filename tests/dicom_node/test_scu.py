import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import FileDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts

from dicom_node.errors import DestinationBusyError, DestinationRefusedError
from dicom_node.line import Line
from dicom_node.peer import Timeouts
from dicom_node.scu import Receipt, send_files, verify
from tests.fakes import FakeArchive, archive
from tests.phantoms import mr_image, write

NATIVE_MR = ((MRImageStorage, (ExplicitVRLittleEndian, ImplicitVRLittleEndian)),)


@pytest.fixture
def image() -> FileDataset:
    return mr_image("scu", 0, np.arange(64, dtype=np.uint16).reshape(8, 8))


def send(peer: FakeArchive, paths: list[Path], called: str = "ARCHIVE") -> list[Receipt]:
    return list(send_files(paths, host="127.0.0.1", port=peer.port, calling_aet="VIGIL", called_aet=called))


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def test_files_go_out_as_they_are_with_one_receipt_each_in_order(tmp_path: Path, image: FileDataset) -> None:
    paths = write(tmp_path / "sent", [image, mr_image("scu", 1, np.zeros((8, 8), np.uint16))])
    paths.reverse()

    with archive(tmp_path, contexts=NATIVE_MR) as peer:
        receipts = send(peer, paths)

    assert [(receipt.path, receipt.status, receipt.is_stored) for receipt in receipts] == [
        (path, 0x0000, True) for path in paths
    ]
    assert [content for _, content in peer.received] == [data_set_of(path) for path in paths]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0x0000, None),
        (0xB000, None),
        (0xB006, None),
        (0xB007, None),
        (0xA700, DestinationBusyError),
        (0xA702, DestinationBusyError),
        (0x0110, DestinationBusyError),
        (0xA900, DestinationRefusedError),
        (0xC000, DestinationRefusedError),
        (0xC211, DestinationRefusedError),
        (0x0122, DestinationRefusedError),
        (0x0124, DestinationRefusedError),
    ],
)
def test_a_status_is_stored_busy_or_refused(
    tmp_path: Path, image: FileDataset, status: int, error: type[Exception] | None
) -> None:
    with archive(tmp_path, contexts=NATIVE_MR, status=status) as peer:
        (receipt,) = send(peer, write(tmp_path / "sent", [image]))

    assert receipt.status == status
    assert receipt.is_stored == (error is None)
    assert type(receipt.error) is (error or type(None))
    assert receipt.error is None or receipt.error.status == status


def test_a_destination_that_takes_implicit_alone_gets_implicit(tmp_path: Path, image: FileDataset) -> None:
    with archive(tmp_path, contexts=((MRImageStorage, (ImplicitVRLittleEndian,)),)) as peer:
        (receipt,) = send(peer, write(tmp_path / "sent", [image]))

    assert receipt.is_stored
    ((syntax, content),) = peer.received
    assert syntax == ImplicitVRLittleEndian
    # Group 0008, then a length and no VR.
    assert content[:4] == b"\x08\x00\x05\x00" or content[4:6] not in (b"CS", b"UI")
    assert image.PixelData in content


def test_a_destination_that_cannot_decode_gets_native_pixels_under_the_same_uid(
    tmp_path: Path, image: FileDataset
) -> None:
    native = image.PixelData
    image.compress(RLELossless, generate_instance_uid=False)
    paths = write(tmp_path / "sent", [image])

    with archive(tmp_path, contexts=NATIVE_MR) as peer:
        (receipt,) = send(peer, paths)

    assert receipt.is_stored
    ((syntax, content),) = peer.received
    assert syntax == ExplicitVRLittleEndian
    assert native in content
    assert str(image.SOPInstanceUID).encode() in content


def test_compressed_pixels_stay_compressed_where_they_are_taken(tmp_path: Path, image: FileDataset) -> None:
    image.compress(RLELossless, generate_instance_uid=False)
    paths = write(tmp_path / "sent", [image])

    with archive(tmp_path, contexts=((MRImageStorage, (ExplicitVRLittleEndian, RLELossless)),)) as peer:
        send(peer, paths)

    assert peer.received == [(RLELossless, data_set_of(paths[0]))]


def test_a_class_the_destination_does_not_take_is_refused_and_the_others_go(
    tmp_path: Path, image: FileDataset
) -> None:
    paths = write(tmp_path / "sent", [image])
    other = mr_image("other", 1, np.zeros((8, 8), np.uint16))
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    paths += write(tmp_path / "other", [other])

    with archive(tmp_path, contexts=NATIVE_MR) as peer:
        good, bad = send(peer, paths)

    assert good.is_stored
    assert isinstance(bad.error, DestinationRefusedError)
    assert bad.status is None


def test_a_destination_that_takes_nothing_of_it_refuses(tmp_path: Path, image: FileDataset) -> None:
    with archive(tmp_path, contexts=()) as peer:
        (receipt,) = send(peer, write(tmp_path / "sent", [image]))

    assert isinstance(receipt.error, DestinationRefusedError)


def test_big_endian_is_never_transcoded_wrongly(tmp_path: Path, image: FileDataset) -> None:
    path = tmp_path / "big.dcm"
    image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
    image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dcmwrite(path, image, little_endian=False, implicit_vr=False, force_encoding=True)

    with archive(tmp_path, contexts=NATIVE_MR) as peer:
        (receipt,) = send(peer, [path])

    assert isinstance(receipt.error, DestinationRefusedError)
    assert peer.received == []


def test_what_is_not_dicom_gets_a_receipt_and_the_rest_is_sent(tmp_path: Path, image: FileDataset) -> None:
    text = tmp_path / "readme.txt"
    text.write_text("no image")
    paths = [text, *write(tmp_path / "sent", [image]), tmp_path / "missing.dcm"]

    with archive(tmp_path, contexts=NATIVE_MR) as peer:
        receipts = send(peer, paths)

    assert [receipt.path for receipt in receipts] == paths
    assert [receipt.is_stored for receipt in receipts] == [False, True, False]
    assert send(peer, [text])[0].status is None


def test_nobody_there_is_busy_not_refused(tmp_path: Path, image: FileDataset) -> None:
    paths = write(tmp_path / "sent", [image]) * 2
    with archive(tmp_path, contexts=NATIVE_MR) as peer:
        pass

    receipts = send(peer, paths)

    assert all(isinstance(receipt.error, DestinationBusyError) for receipt in receipts)
    assert [receipt.status for receipt in receipts] == [None, None]


def test_a_rejected_association_is_busy_and_says_why(tmp_path: Path, image: FileDataset) -> None:
    with archive(tmp_path, contexts=NATIVE_MR) as peer:
        (receipt,) = send(peer, write(tmp_path / "sent", [image]), called="OTHER")

    assert isinstance(receipt.error, DestinationBusyError)
    assert "Called AE title not recognised" in str(receipt.error)


def test_more_classes_than_one_association_can_carry_take_several(tmp_path: Path) -> None:
    """An association has at most 128 contexts, and a class here needs two."""
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts][:70]
    images = []
    for number, sop_class in enumerate(classes):
        image = mr_image("many", number, np.zeros((4, 4), np.uint16))
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = sop_class
        images.append(image)
    paths = write(tmp_path / "sent", images)

    with archive(tmp_path, contexts=[(uid, (ExplicitVRLittleEndian,)) for uid in classes]) as peer:
        receipts = send(peer, paths)

    assert [receipt.path for receipt in receipts if receipt.is_stored] == paths


def test_errors_name_neither_patient_nor_uid(tmp_path: Path, image: FileDataset) -> None:
    paths = write(tmp_path / "sent", [image])
    with archive(tmp_path, contexts=NATIVE_MR, status=0xC000) as peer:
        told = str(send(peer, paths)[0].error)

    assert str(dcmread(paths[0]).PatientID) not in told
    assert str(image.SOPInstanceUID) not in told


def entity(peer: FakeArchive, **changes: Any) -> Line:
    values = {"host": "127.0.0.1", "port": peer.port, "calling_aet": "VIGIL", "called_aet": "ARCHIVE"}
    return Line(**(values | changes))


def test_a_peer_that_answers_an_echo_is_alive(tmp_path: Path) -> None:
    with archive(tmp_path, contexts=()) as peer:
        verify(entity(peer))

    with pytest.raises(DestinationBusyError, match="cannot be reached"):
        verify(entity(peer))


def test_a_host_without_an_address_is_busy(tmp_path: Path) -> None:
    with archive(tmp_path, contexts=()) as peer, pytest.raises(DestinationBusyError):
        verify(entity(peer, host="no-such-host.invalid"))


@contextmanager
def babbler(answer: bytes, *, pause_s: float) -> Iterator[int]:
    """Port of a peer that negotiates, and answers the first object with the same bytes again and again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(100_000)
                context = struct.pack(">BBHBBBB", 0x21, 0, 4 + 4 + 17, 1, 0, 0, 0)
                context += struct.pack(">BBH", 0x40, 0, 17) + b"1.2.840.10008.1.2"
                user = struct.pack(">BBHBBHL", 0x50, 0, 8, 0x51, 0, 4, 16_384)
                body = struct.pack(">HH", 1, 0) + b" " * 64 + context + user
                connection.sendall(struct.pack(">BBL", 2, 0, len(body)) + body)
                connection.recv(1_000_000)
                while True:
                    connection.sendall(answer)
                    time.sleep(pause_s)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("answer", "pause_s"),
    [
        (
            struct.pack(">BBLLBB", 4, 0, 6 + 1000, 2 + 1000, 1, 1) + bytes(1000),
            0.0,
        ),  # never the last fragment
        (b"\x04", 0.2),  # never the last byte of a PDU
    ],
    ids=["endless", "drips"],
)
def test_a_destination_that_never_ends_its_answer_is_left(
    tmp_path: Path, image: FileDataset, answer: bytes, pause_s: float
) -> None:
    paths = write(tmp_path / "sent", [image])
    begun = time.monotonic()
    with babbler(answer, pause_s=pause_s) as port:
        receipts = send_files(
            paths,
            host="127.0.0.1",
            port=port,
            calling_aet="VIGIL",
            called_aet="ARCHIVE",
            timeouts=Timeouts(answer_s=1.0),
        )
        (receipt,) = receipts

    assert isinstance(receipt.error, DestinationBusyError)
    assert time.monotonic() - begun < 30
