from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.delivery import Destination, open_destination
from dicom_node.errors import DestinationBusyError
from dicom_node.peers import Peer, Role
from tests.fakes import FakeDestination, archive
from tests.phantoms import mr_image, write

NATIVE_MR = ((MRImageStorage, (ExplicitVRLittleEndian,)),)


def peer_at(port: int | None, role: Role = Role.DESTINATION) -> Peer:
    return Peer(name="archive", aet="ARCHIVE", host="127.0.0.1", port=port, roles=frozenset({role}))


def send_two(destination: Destination, folder: Path) -> list[Path]:
    """Contract of every destination: all files, one receipt each, in order."""
    images = [mr_image("delivery", number, np.zeros((4, 4), np.uint16)) for number in range(2)]
    paths = write(folder / "sent", images)

    destination.check()
    receipts = destination.send(paths)

    assert [receipt.path for receipt in receipts] == paths
    assert all(receipt.is_stored and receipt.status == 0x0000 for receipt in receipts)
    return paths


def test_results_reach_a_storage_scp(tmp_path: Path) -> None:
    with archive(tmp_path, contexts=NATIVE_MR) as there:
        send_two(open_destination(peer_at(there.port), calling_aet="VIGIL"), tmp_path)

    assert len(there.received) == 2


def test_the_fake_keeps_the_contract_of_the_real_one(tmp_path: Path) -> None:
    fake = FakeDestination()

    assert send_two(fake, tmp_path) == fake.sent


def test_both_say_when_nobody_is_there(tmp_path: Path) -> None:
    with archive(tmp_path, contexts=NATIVE_MR) as there:
        pass
    paths = write(tmp_path / "one", [mr_image("one", 0, np.zeros((4, 4), np.uint16))])
    gone = open_destination(peer_at(there.port), calling_aet="VIGIL")
    fake = FakeDestination(error=DestinationBusyError("The destination is not there."))

    for destination in (gone, fake):
        with pytest.raises(DestinationBusyError):
            destination.check()
        (receipt,) = destination.send(paths)
        assert isinstance(receipt.error, DestinationBusyError)


def test_a_peer_without_a_port_is_no_destination() -> None:
    with pytest.raises(ValueError, match="has no port"):
        open_destination(peer_at(None, Role.SENDER), calling_aet="VIGIL")
