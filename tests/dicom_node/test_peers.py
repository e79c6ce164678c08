from pathlib import Path

import pytest

from dicom_node.errors import PeersError
from dicom_node.peers import Peers

FILE = """
peers:
  - {name: scanner, aet: MR1, host: 10.1.2.3, roles: [sender], quiet_s: 120}
  - {name: scanner-2, aet: MR1, host: 10.1.2.4, roles: [sender], quiet_s: 30}
  - {name: ward, aet: CR, host: 10.9.0.0/16, roles: [sender]}
  - {name: workstation, aet: WS, host: localhost, roles: [sender]}
  - {name: archive, aet: PACS, host: pacs.example.org, port: 104, roles: [destination]}
"""


@pytest.fixture
def peers(tmp_path: Path) -> Peers:
    return load(tmp_path, FILE)


def load(folder: Path, content: str) -> Peers:
    (folder / "peers.yaml").write_text(content)
    return Peers.load(folder / "peers.yaml")


def test_without_a_file_any_ae_title_comes_in_from_this_machine_alone(tmp_path: Path) -> None:
    peers = Peers.load(tmp_path / "peers.yaml")

    assert peers.accepts("ANYONE", "127.0.0.1")
    assert peers.accepts("ANYONE", "::1")
    assert peers.accepts("ANYONE", "::ffff:127.0.0.1")
    assert not peers.accepts("ANYONE", "192.168.1.2")
    assert peers.destinations == ()


def test_a_sender_is_bound_to_its_address(peers: Peers) -> None:
    assert peers.accepts("MR1 ", "10.1.2.3")
    assert not peers.accepts("MR1", "10.1.2.5")
    assert not peers.accepts("MR2", "10.1.2.3")


def test_a_sender_may_be_a_network_or_a_host_name(peers: Peers) -> None:
    assert peers.accepts("CR", "10.9.200.1")
    assert not peers.accepts("CR", "10.10.0.1")
    assert peers.accepts("WS", "127.0.0.1")
    assert not peers.accepts("WS", "10.1.2.3")


def test_a_destination_is_no_sender(peers: Peers) -> None:
    assert [peer.name for peer in peers.destinations] == ["archive"]
    assert not peers.accepts("PACS", "127.0.0.1")


def test_the_longest_quiet_period_of_an_ae_title_counts(peers: Peers) -> None:
    assert peers.quiet_s("MR1", default=60.0) == 120.0
    assert peers.quiet_s("CR", default=60.0) == 60.0
    assert peers.quiet_s("UNKNOWN", default=60.0) == 60.0


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{name: a, aet: A, host: h, roles: [destination]}", "needs a port"),
        ("{name: a, aet: A, host: 10.0.0.0/8, port: 104, roles: [destination]}", "not a network"),
        ("{name: a, aet: A, host: h, port: 99999, roles: [destination]}", "peers.0.port"),
        ("{name: a, aet: A, host: h, roles: [reader]}", "peers.0.roles"),
        ("{name: a, aet: A, host: h, roles: []}", "peers.0.roles"),
        ("{name: a, aet: SEVENTEEN_LETTERS, host: h, roles: [sender]}", "peers.0.aet"),
        ("{name: a b, aet: A, host: h, roles: [sender]}", "peers.0.name"),
        ("{name: a, aet: A, host: h, roles: [sender], quiet_s: -1}", "peers.0.quiet_s"),
        ("{name: a, aet: A, host: h, roles: [sender], tls: true}", "peers.0.tls"),
        ("{name: a, aet: A, roles: [sender]}", "peers.0.host"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, line: str, field: str) -> None:
    with pytest.raises(PeersError, match=field):
        load(tmp_path, f"peers:\n  - {line}\n")


def test_a_name_used_twice_is_refused(tmp_path: Path) -> None:
    one = "  - {name: a, aet: A, host: h, roles: [sender]}\n"

    with pytest.raises(PeersError, match="name a is used twice"):
        load(tmp_path, "peers:\n" + one + one)


@pytest.mark.parametrize("content", ["peers: [", "\t", "just text", "", "peers: 3", "[1, 2]"])
def test_what_is_no_peers_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(PeersError, match=r"peers\.yaml"):
        load(tmp_path, content)


def test_yaml_cannot_build_objects(tmp_path: Path) -> None:
    with pytest.raises(PeersError):
        load(tmp_path, "peers: !!python/object/apply:os.getcwd []")
