import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from structlog.testing import capture_logs

from dicom_node.handlers import Counters, handle_store, reject_strangers
from dicom_node.peers import Peers
from tests.fakes import FakeSink
from tests.phantoms import mr_image


@pytest.fixture
def image() -> FileDataset:
    return mr_image("handlers", 0, np.zeros((4, 4), np.uint16))


@pytest.fixture
def counters() -> Counters:
    return Counters()


def event_of(folder: Path, image: FileDataset) -> SimpleNamespace:
    """What pynetdicom hands over: the request, and the file it wrote the data set to."""
    path = folder / "received.dcm"
    image.save_as(path, enforce_file_format=True)
    return SimpleNamespace(
        dataset_path=path,
        context=SimpleNamespace(transfer_syntax=image.file_meta.TransferSyntaxUID),
        request=SimpleNamespace(
            AffectedSOPClassUID=image.SOPClassUID, AffectedSOPInstanceUID=image.SOPInstanceUID
        ),
        assoc=SimpleNamespace(requestor=SimpleNamespace(ae_title="SCANNER ")),
    )


def data_set_of(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


def test_an_instance_is_stored_as_it_came_with_its_sender_beside_it(
    tmp_path: Path, image: FileDataset, counters: Counters
) -> None:
    sink, event = FakeSink(), event_of(tmp_path, image)

    answer = handle_store(event, sink, counters)

    assert answer.Status == 0x0000
    ((keys, content),) = sink.stored.items()
    assert keys == (image.StudyInstanceUID, image.SOPInstanceUID)
    assert data_set_of(content) == data_set_of(event.dataset_path.read_bytes())
    meta = dcmread(io.BytesIO(content)).file_meta
    assert meta.SourceApplicationEntityTitle == "SCANNER"
    assert meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
    assert counters.snapshot() == {"stored": 1}


@pytest.mark.parametrize("sink", [FakeSink(room=False), FakeSink(fills_up=True)], ids=["mark", "disk full"])
def test_without_room_the_sender_is_asked_to_try_again(
    tmp_path: Path, image: FileDataset, counters: Counters, sink: FakeSink
) -> None:
    answer = handle_store(event_of(tmp_path, image), sink, counters)

    assert answer.Status == 0xA700
    assert counters.snapshot() == {"refused_full": 1}


def test_garbage_is_refused_and_kept(tmp_path: Path, image: FileDataset, counters: Counters) -> None:
    sink, event = FakeSink(), event_of(tmp_path, image)
    content = event.dataset_path.read_bytes()
    garbage = b"\xff" * len(data_set_of(content))
    event.dataset_path.write_bytes(content[: -len(garbage)] + garbage)

    answer = handle_store(event, sink, counters)

    assert answer.Status == 0xC001
    ((reason, kept),) = sink.quarantined
    assert (reason, data_set_of(kept)) == ("unreadable", garbage)
    assert not sink.stored


@pytest.mark.parametrize("announced", ["AffectedSOPClassUID", "AffectedSOPInstanceUID"])
def test_what_is_not_what_was_announced_is_refused_and_kept(
    tmp_path: Path, image: FileDataset, counters: Counters, announced: str
) -> None:
    sink, event = FakeSink(), event_of(tmp_path, image)
    setattr(event.request, announced, "1.2.840.10008.5.1.4.1.1.2")

    answer = handle_store(event, sink, counters)

    assert answer.Status == 0xA900
    assert [reason for reason, _ in sink.quarantined] == ["mismatch"]


def test_an_error_of_ours_is_an_answer_too(tmp_path: Path, image: FileDataset, counters: Counters) -> None:
    class Broken(FakeSink):
        def has_room(self) -> bool:
            raise PermissionError(13, "Permission denied", image.StudyInstanceUID)

    with capture_logs() as logs:
        answer = handle_store(event_of(tmp_path, image), Broken(), counters)

    assert answer.Status == 0xC002
    assert logs[0]["event"] == "instance not stored"
    assert counters.snapshot() == {"refused_error": 1}


def test_neither_comment_nor_log_says_who_it_was(
    tmp_path: Path, image: FileDataset, counters: Counters
) -> None:
    event = event_of(tmp_path, image)
    event.request.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"

    with capture_logs() as logs:
        answer = handle_store(event, FakeSink(), counters)

    told = f"{answer.ErrorComment} {logs}"
    for secret in (image.StudyInstanceUID, image.SOPInstanceUID, image.PatientID, "Phantom^One", "SCANNER"):
        assert str(secret) not in told
    assert len(answer.ErrorComment) <= 64


def test_a_sender_that_cannot_be_checked_is_rejected(counters: Counters) -> None:
    sent: list[tuple[int, ...]] = []
    association = SimpleNamespace(
        requestor=SimpleNamespace(primitive=None, address_info=None),
        acse=SimpleNamespace(send_reject=lambda *reason: sent.append(reason)),
        kill=lambda: None,
    )

    with capture_logs():
        reject_strangers(SimpleNamespace(assoc=association), Peers(), counters)

    assert sent == [(1, 1, 3)]
