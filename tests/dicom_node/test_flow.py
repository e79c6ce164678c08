import queue
import socket
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from dicom_node.flow import LONGEST_PDU, MOST_IN_MEMORY, Flow

PDU = LONGEST_PDU // 4


@dataclass
class Association:
    """As much of pynetdicom's as a flow looks at; a namespace cannot be referred to weakly."""

    dimse: SimpleNamespace


def receive(message: object, count: int) -> int:
    """Bytes a connection lets through while `message` is being received, in PDUs of one size."""
    ours, theirs = socket.socketpair()
    association = Association(SimpleNamespace(message=message))
    connection = SimpleNamespace(socket=ours, assoc=association)
    flow = Flow(connection, max_message_bytes=100 * LONGEST_PDU, pdu_timeout_s=5)
    taken = 0
    with ours, theirs:
        for _ in range(count):
            theirs.settimeout(5)
            for start in range(0, PDU, 4096):  # a socket holds less than a PDU
                theirs.sendall(bytes(min(4096, PDU - start)))
                taken += len(flow.recv(min(4096, PDU - start)))
    return taken


def test_what_is_kept_in_memory_is_bounded() -> None:
    """A command set, or the data set of anything but a C-STORE, never fills the node."""
    with pytest.raises(OSError, match="limit"):
        receive(None, MOST_IN_MEMORY // PDU + 1)


def test_what_goes_to_the_disk_may_be_larger() -> None:
    on_disk = SimpleNamespace(_data_set_path="instance.part")

    assert receive(on_disk, MOST_IN_MEMORY // PDU + 1) > MOST_IN_MEMORY


def test_a_full_disk_leaves_neither_the_file_nor_the_connection(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    path = tmp_path / "instance.dcm"
    path.touch()
    file = Path("/dev/full").open("wb")  # noqa: SIM115 - closed by the flow
    file.write(b"what the disk does not take")
    dimse = SimpleNamespace(message=None, msg_queue=queue.Queue())
    association = Association(dimse)
    flow = Flow(SimpleNamespace(socket=ours, assoc=association), max_message_bytes=1, pdu_timeout_s=5)
    flow.message_complete(SimpleNamespace(_data_set_path=path, _data_set_file=file))

    with theirs:
        flow.end(association)

        assert (path.exists(), file.closed, ours.fileno()) == (False, True, -1)
