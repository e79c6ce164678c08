import socket
from dataclasses import dataclass
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
