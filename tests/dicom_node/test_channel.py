from pathlib import Path

import pytest

from dicom_node.channel import Event, FhirChannel, Hl7Channel
from dicom_node.errors import PeersError, UnknownPeerError
from dicom_node.peers import Peers

FILE = """
peers: []
channels:
  - {name: board, protocol: webhook, url: "https://board.example.org/in", secrets: [/etc/vigil/hook]}
  - name: ris
    protocol: hl7
    roles: [results, orders]
    host: 127.0.0.1
    port: 2575
    accession_field: 3
  - {name: ehr, protocol: fhir, url: "https://ehr.example.org/r4", authorization: /etc/vigil/ehr}
"""


def load(folder: Path, channels: str) -> Peers:
    (folder / "peers.yaml").write_text(channels)
    return Peers.load(folder / "peers.yaml")


def test_channels_stand_beside_the_peers(tmp_path: Path) -> None:
    peers = load(tmp_path, FILE)

    assert [channel.name for channel in peers.channels] == ["board", "ris", "ehr"]
    assert peers.channel("board").told == frozenset(Event)
    assert Event.DELIVERED not in peers.channel("ris").told
    assert isinstance(peers.channel("ehr"), FhirChannel)
    with pytest.raises(UnknownPeerError):
        peers.channel("nobody")


def test_who_only_sends_orders_is_told_nothing() -> None:
    ris = Hl7Channel.model_validate(
        {"name": "ris", "protocol": "hl7", "host": "10.0.0.0/8", "roles": ["orders"]}
    )

    assert ris.told == frozenset()


def test_a_sender_of_orders_is_known_by_its_address(tmp_path: Path) -> None:
    peers = load(tmp_path, FILE)

    known = peers.ordering("127.0.0.1", None)
    assert known is not None
    assert known.name == "ris"
    assert peers.ordering("127.0.0.2", None) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{name: a, protocol: webhook, url: 'http://board.example.org/', secrets: [/x]}", "https"),
        ("{name: a, protocol: webhook, url: 'https://u:p@board.example.org/', secrets: [/x]}", "url"),
        ("{name: a, protocol: webhook, url: 'https://board.example.org/', secrets: []}", "secrets"),
        ("{name: a, protocol: webhook, url: 'https://board.example.org/', secret: x}", "secret"),
        ("{name: a, protocol: fhir, url: 'http://ehr.example.org/'}", "https"),
        ("{name: a, protocol: fhir, url: 'https://e/', password: x}", "password"),
        (
            (
                "{name: a, protocol: fhir, url: 'https://e/', authorization: /x, "
                "oauth: {token_url: 'https://t/', client_id: v, client_secret: /s}}"
            ),
            "not both",
        ),
        (
            (
                "{name: a, protocol: fhir, url: 'https://e/', "
                "oauth: {token_url: 'http://t.example.org/', client_id: v, client_secret: /s}}"
            ),
            "https",
        ),
        ("{name: a, protocol: hl7, host: ris}", "port"),
        ("{name: a, protocol: hl7, host: 10.0.0.0/8, port: 1}", "one host"),
        ("{name: a, protocol: hl7, host: ris, port: 1, accession_field: 4}", "accession_field"),
        ("{name: a, protocol: hl7, host: ris, port: 1, events: [result.delivered]}", "result.delivered"),
        ("{name: a, protocol: hl7, host: ris, port: 1, events: [scanner.drifted]}", "scanner.drifted"),
        ("{name: a, protocol: carrier-pigeon, host: ris}", "carrier-pigeon"),
    ],
)
def test_what_is_wrong_with_a_channel_is_said(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(PeersError, match=words):
        load(tmp_path, f"peers: []\nchannels:\n  - {line}\n")


def test_a_channel_and_a_peer_have_no_name_in_common(tmp_path: Path) -> None:
    peer = "{name: ris, aet: RIS, host: 10.1.2.3, roles: [sender]}"

    with pytest.raises(PeersError, match="used twice"):
        load(tmp_path, f"peers: [{peer}]\nchannels: [{{name: ris, protocol: hl7, host: ris, port: 1}}]\n")


def test_on_this_machine_plain_http_is_allowed(tmp_path: Path) -> None:
    line = "{name: a, protocol: webhook, url: 'http://127.0.0.1:8000/', secrets: [/x]}"

    assert len(load(tmp_path, f"peers: []\nchannels:\n  - {line}\n").channels) == 1
