"""Archives and worklists that answer as told, asked by the real calling side."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import (
    ModalityWorklistInformationFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from dicom_node.contexts import prepare_pynetdicom
from dicom_node.identity import series_key
from dicom_node.peers import Peer, Peers
from dicom_node.spool import Spool
from service import inquiry as module
from service.inquiry import Inquiry
from service.study import Priority
from tests.phantoms import Phantom, write


@dataclass
class Answers:
    """What the peer answers to whoever asks."""

    counts: Mapping[str, int] = field(default_factory=dict)
    orders: Mapping[str, str] = field(default_factory=dict)  # accession number to priority
    port: int = 0


@contextmanager
def answering(answers: Answers) -> Iterator[Answers]:
    prepare_pynetdicom()

    def find(event: Any) -> Iterator[tuple[int, Dataset]]:
        if event.request.AffectedSOPClassUID == ModalityWorklistInformationFind:
            rows = [
                ("AccessionNumber", "RequestedProcedurePriority", item) for item in answers.orders.items()
            ]
        else:
            rows = [
                ("SeriesInstanceUID", "NumberOfSeriesRelatedInstances", item)
                for item in answers.counts.items()
            ]
        for first, second, (key, value) in rows:
            match = Dataset()
            setattr(match, first, key)
            setattr(match, second, value)
            yield 0xFF00, match

    server = AE("PACS").start_server(
        ("127.0.0.1", 0),
        block=False,
        contexts=[
            build_context(StudyRootQueryRetrieveInformationModelFind),
            build_context(ModalityWorklistInformationFind),
        ],
        evt_handlers=[(evt.EVT_C_FIND, find)],
    )
    answers.port = server.server_address[1]
    try:
        yield answers
    finally:
        server.shutdown()
        for association in server.active_associations:
            association.abort()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """One study of two images with an accession number."""
    spool = Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=0)
    images = Phantom().datasets()[:2]
    for image in images:
        image.AccessionNumber = "ACC1"
        (path,) = write(tmp_path / "sent", [image])
        spool.store(image.StudyInstanceUID, image.SOPInstanceUID, [path.read_bytes()])
    return spool


def inquiry(spool: Spool, port: int, *roles: str) -> Inquiry:
    peer = Peer.model_validate(
        {"name": "pacs", "aet": "PACS", "host": "127.0.0.1", "port": port, "roles": roles}
    )
    return Inquiry(peers=Peers((peer,)), spool=spool, calling_aet="VIGIL", in_background=False)


def key_of(spool: Spool) -> str:
    ((key, _),) = spool.studies()
    return key


def test_an_archive_is_believed_when_it_says_the_same_twice(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_AGAIN_S", 0.0)
    with answering(Answers(counts={"1.2.3": 2})) as answers:
        asked = inquiry(spool, answers.port, "archive")
        told = []
        for counts in ({"1.2.3": 2}, {"1.2.3": 3}, {"1.2.3": 3}):
            answers.counts = counts
            asked.counts(key_of(spool))
            asked.step()
            told.append(asked.counts(key_of(spool)))

    assert told == [None, None, {series_key("1.2.3"): 3}]


@pytest.mark.parametrize(
    ("stated", "priority"), [("STAT", Priority.STAT), ("HIGH", Priority.URGENT), ("LOW", None)]
)
def test_a_worklist_says_how_urgent_the_order_is(
    spool: Spool, stated: str, priority: Priority | None
) -> None:
    with answering(Answers(orders={"ACC1": stated, "ACC2": "STAT"})) as answers:
        asked = inquiry(spool, answers.port, "worklist")
        before = asked.priority(key_of(spool))
        asked.step()
        after = asked.priority(key_of(spool))

    assert (before, after) == (None, priority)


def test_a_peer_that_is_away_is_let_rest(spool: Spool) -> None:
    with answering(Answers()) as gone:
        pass
    asked = inquiry(spool, gone.port, "archive")
    asked.counts(key_of(spool))

    asked.step()

    assert asked.counts(key_of(spool)) is None
    assert asked._awake(module.Role.ARCHIVE) == []


def test_nobody_is_asked_where_nobody_is_named(spool: Spool) -> None:
    asked = Inquiry(peers=Peers(()), spool=spool, calling_aet="VIGIL")

    assert asked.counts(key_of(spool)) is None
    assert not asked.is_needed
