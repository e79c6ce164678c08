"""The audit repository gets every row, in order, whatever happens in between."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from lxml import etree

from service.audit_export import AT_ONCE, NAME, AuditExport
from service.store import Store, audit, trail
from service.syslog import Receiver, RepositoryAwayError
from tests.certificates import Certificates, make
from tests.syslog_receiver import SyslogReceiver, receiving

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def receiver(certificates: Certificates) -> Iterator[SyslogReceiver]:
    with receiving(certificates) as running:
        yield running


def export(store: Store, certificates: Certificates, port: int) -> AuditExport:
    address = f"127.0.0.1:{port}"
    return AuditExport(
        store=store, receiver=Receiver.open(address, authorities=certificates.authority, certificate=None)
    )


def happen(store: Store, count: int) -> None:
    with store.transaction() as session:
        for _ in range(count):
            audit.append(session, "study.viewed", actor="ada", study_key="a" * 20)


def numbers(receiver: SyslogReceiver) -> list[int]:
    """Number of the row that each message tells."""
    found = []
    for message in receiver.received:
        root = etree.fromstring(message.partition(b"\xef\xbb\xbf")[2])
        found.append(int(root.xpath("ParticipantObjectIdentification/@ParticipantObjectID")[-1]))
    return found


def untold(store: Store) -> int:
    with store.transaction() as session:
        return trail.lag(session, NAME).rows


def look(told: AuditExport) -> None:
    told._not_before = 0.0
    told.step(None)  # type: ignore[arg-type]


def test_every_row_arrives_once_and_in_order(
    store: Store, certificates: Certificates, receiver: SyslogReceiver
) -> None:
    happen(store, AT_ONCE + 5)
    told = export(store, certificates, receiver.port)
    look(told)
    happen(store, 2)
    look(told)

    assert numbers(receiver) == list(range(1, AT_ONCE + 8))
    assert untold(store) == 0


def test_a_repository_that_is_away_gets_it_all_when_it_is_back(
    store: Store, certificates: Certificates
) -> None:
    with receiving(certificates) as first:
        told = export(store, certificates, first.port)
        happen(store, 3)
        look(told)
    happen(store, 4)
    look(told)
    assert untold(store) == 4
    with receiving(certificates, port=first.port) as second:
        look(told)

    assert numbers(first) + numbers(second) == list(range(1, 8))


def test_a_repository_that_breaks_off_is_sent_the_batch_again(
    store: Store, certificates: Certificates, receiver: SyslogReceiver
) -> None:
    happen(store, 3)
    told = export(store, certificates, receiver.port)
    receiver.serve = lambda _, channel: channel.close()
    with pytest.raises(RepositoryAwayError):
        told.send_batch()
    receiver.serve = SyslogReceiver.read
    look(told)

    assert numbers(receiver) == [1, 2, 3]


def test_a_repository_that_is_away_is_asked_less_and_less_often(
    store: Store, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(store, 1)
    told = export(store, certificates, 1)
    asked: list[float] = []
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    for _ in range(8):
        look(told)
        asked.append(told._not_before - 1000.0)

    assert asked == [1, 2, 4, 8, 16, 32, 60, 60]
    told.step(None)  # type: ignore[arg-type]
    assert told._not_before == 1060.0


def test_two_processes_do_not_tell_the_same_row(
    store: Store, certificates: Certificates, receiver: SyslogReceiver
) -> None:
    happen(store, 1)
    with store.transaction() as session:
        assert trail.claim(session, NAME) == 0
        assert not export(store, certificates, receiver.port).send_batch()
    look(export(store, certificates, receiver.port))

    assert numbers(receiver) == [1]


KILLED = """
import os, sys
from pathlib import Path
from service.audit_export import AuditExport
from service.store import Store
from service.syslog import Receiver
url, port, authority = sys.argv[1:]
class Killed(Receiver):
    def send(self, messages):
        super().send(messages)
        os._exit(9)
receiver = Killed.open(f"127.0.0.1:{port}", authorities=Path(authority), certificate=None)
AuditExport(store=Store.open(url), receiver=receiver).send_batch()
"""


def test_a_kill_between_arrival_and_note_loses_nothing_and_shows_the_second_copy(
    store: Store, certificates: Certificates, receiver: SyslogReceiver
) -> None:
    happen(store, 2)
    arguments = [store.url, str(receiver.port), str(certificates.authority)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, timeout=60)
    assert ended.returncode == 9
    happen(store, 1)
    look(export(store, certificates, receiver.port))

    assert numbers(receiver) == [1, 2, 1, 2, 3]


def test_every_message_has_its_header(
    store: Store, certificates: Certificates, receiver: SyslogReceiver
) -> None:
    happen(store, 1)
    look(export(store, certificates, receiver.port))

    (message,) = receiver.received
    assert re.match(
        rb"<85>1 \d{4}-\d\d-\d\dT[\d:.]+Z \S+ vigil - DICOM\+RFC3881 - \xef\xbb\xbf<AuditM", message
    )
