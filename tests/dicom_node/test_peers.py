from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.errors import PeersError, UnknownPeerError
from dicom_node.peers import Confirm, Peers, Role

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


PROFILE = """
peers:
  - name: pacs
    aet: PACS
    host: 127.0.0.1
    port: 104
    roles: [destination, archive]
    confirm: commitment
    results: [sc, sr]
    timeouts: {connect_s: 2, commitment_s: 60}
    certificate: {sha256: "aa:bb%s"}
  - {name: web, protocol: dicomweb, url: "https://web.example.org/dicom-web", roles: [destination],
     confirm: query}
  - {name: mr, aet: MR1, host: 127.0.0.1, roles: [sender], max_associations: 2,
     contexts: [{sop_class: 1.2.840.10008.5.1.4.1.1.4}]}
""" % (":cc" * 30)


def test_a_profile_says_how_a_peer_is_treated(tmp_path: Path) -> None:
    peers = load(tmp_path, PROFILE)
    pacs = peers.named("pacs")

    assert pacs.confirm is Confirm.COMMITMENT
    assert (pacs.timeouts.connect_s, pacs.timeouts.answer_s) == (2.0, 60.0)
    assert peers.destinations_of("seg") == ("web",)
    assert peers.destinations_of("sr") == ("pacs", "web")
    assert [peer.name for peer in peers.with_role(Role.ARCHIVE)] == ["pacs"]
    with pytest.raises(UnknownPeerError):
        peers.named("nobody")


def test_a_destination_may_call_only_to_report_on_commitment(tmp_path: Path) -> None:
    shown = "aabb" + "cc" * 30
    by_query = load(tmp_path, PROFILE.replace("commitment\n", "query\n"))

    assert not by_query.accepts("PACS", "127.0.0.1", shown)
    assert load(tmp_path, PROFILE).accepts("PACS", "127.0.0.1", shown)


@pytest.mark.parametrize(
    "peer",
    [
        "{name: a, protocol: dicomweb, roles: [destination]}",
        "{name: a, protocol: dicomweb, url: 'ftp://x', roles: [destination]}",
        "{name: a, protocol: dicomweb, url: 'http://user:secret@x', roles: [destination]}",
        "{name: a, protocol: dicomweb, url: 'http://x', roles: [destination], confirm: commitment}",
        "{name: a, protocol: dicomweb, url: 'http://x', roles: [worklist]}",
        "{name: a, protocol: dicomweb, url: 'http://x', roles: [sender]}",
        "{name: a, aet: A, host: h, roles: [archive]}",
        "{name: a, aet: A, host: 10.0.0.0/8, port: 104, roles: [worklist]}",
        "{name: a, aet: A, host: h, roles: [sender], contexts: [{sop_class: x}]}",
        "{name: a, aet: A, host: h, roles: [sender], certificate: {sha256: abc}}",
        "{name: a, aet: A, host: h, port: 1, roles: [destination], results: [SEG]}",
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(tmp_path: Path, peer: str) -> None:
    with pytest.raises(PeersError, match=r"peers\.yaml: peers\.0"):
        load(tmp_path, f"peers:\n  - {peer}\n")


def rewrite(path: Path, content: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(content)
    draft.replace(path)


def test_a_changed_file_is_followed(tmp_path: Path) -> None:
    peers = load(tmp_path, FILE)
    before = peers.destinations_of("sr")

    rewrite(tmp_path / "peers.yaml", PROFILE)

    assert peers.refresh()
    assert not peers.refresh()
    assert (before, peers.destinations_of("sr")) == (("archive",), ("pacs", "web"))


def test_a_change_is_seen_without_being_asked_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.peers.LOOK_AGAIN_S", 0.0)
    peers = load(tmp_path, FILE)

    rewrite(tmp_path / "peers.yaml", PROFILE)

    assert [peer.name for peer in peers.destinations] == ["pacs", "web"]


@pytest.mark.parametrize("bad", ["peers: [", "peers:\n  - {name: a}\n", None])
def test_a_bad_file_leaves_the_peers_as_they_were_and_a_good_one_mends_it(
    tmp_path: Path, bad: str | None
) -> None:
    peers = load(tmp_path, FILE)
    if bad is None:
        (tmp_path / "peers.yaml").unlink()
    else:
        rewrite(tmp_path / "peers.yaml", bad)

    with capture_logs() as logs:
        refreshed = [peers.refresh() for _ in range(3)]
    kept = peers.destinations_of("sr")
    rewrite(tmp_path / "peers.yaml", PROFILE)

    assert refreshed == [False, False, False]
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert kept == ("archive",)
    assert not peers.accepts("ANYONE", "127.0.0.1")
    assert peers.refresh()
    assert peers.destinations_of("sr") == ("pacs", "web")


def test_a_file_that_appears_ends_the_rule_for_none(tmp_path: Path) -> None:
    peers = Peers.load(tmp_path / "peers.yaml")
    before = peers.accepts("ANYONE", "127.0.0.1")

    rewrite(tmp_path / "peers.yaml", FILE)
    peers.refresh()

    assert before
    assert not peers.accepts("ANYONE", "127.0.0.1")


@pytest.mark.parametrize(
    "entry",
    [
        "{name: pacs, aet: PACS, host: pacs..local, port: 104, roles: [destination]}",
        "{name: pacs, protocol: dicomweb, url: 'https://h:99999/x', roles: [destination]}",
        "{name: pacs, protocol: dicomweb, url: 'http://[::1/x', roles: [destination]}",
    ],
)
def test_a_peer_whose_address_leads_nowhere_is_refused_with_what_it_should_be(
    tmp_path: Path, entry: str
) -> None:
    (tmp_path / "peers.yaml").write_text(f"peers:\n- {entry}\n")

    with pytest.raises(PeersError, match=r"host name or address|\[:PORT\]"):
        Peers.load(tmp_path / "peers.yaml")
