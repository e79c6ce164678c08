"""What the receiver answers beside storage, asked by pynetdicom's own calling side."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    Verification,
)

from dicom_node.contexts import prepare_pynetdicom
from dicom_node.errors import NotOfferedError
from dicom_node.identity import instance_file_name
from dicom_node.line import Line, line_to
from dicom_node.peer import AllowedContext
from dicom_node.peers import Confirm, Peer, Peers
from dicom_node.pulls import Pulls
from dicom_node.scp import Receiver
from dicom_node.services import commitment_provider
from dicom_node.services.commitment import (
    COMMITMENT_INSTANCE,
    Mailbox,
    Reference,
    request_commitment,
)
from dicom_node.services.commitment_provider import CommitmentProvider
from dicom_node.services.provider import Provider
from dicom_node.signals import Signal, SignalKind, Signals
from dicom_node.spool import Spool
from dicom_node.withdrawn import Withdrawn
from tests.phantoms import Phantom, write

SECRET = b"s" * 32
STUDY = "1.2.3"
STEP = "1.2.3.9"


class Node:
    """A receiver with its services."""

    def __init__(
        self,
        folder: Path,
        peers: Peers,
        *,
        offers_commitment: bool = False,
        is_settled: Callable[[], bool] = lambda: True,
    ) -> None:
        self.spool = Spool(folder / "spool", SECRET, free_mark_bytes=0)
        self.signals = Signals(folder / "signals")
        self.mailbox = Mailbox(folder / "signals" / "commitment")
        self.pulls = Pulls(folder / "signals" / "pulls")
        self.commitment = None
        if offers_commitment:
            self.commitment = CommitmentProvider(
                spool=self.spool,
                signals=self.signals,
                peers=peers,
                folder=folder / "signals" / "requests",
                aet="VIGIL",
                is_settled=is_settled,
            )
        provider = Provider(
            spool=self.spool,
            signals=self.signals,
            mailbox=self.mailbox,
            peers=peers,
            pulls=self.pulls,
            commitment=self.commitment,
        )
        self.receiver = Receiver(
            self.spool, aet="VIGIL", host="127.0.0.1", port=0, peers=peers, services=provider
        )

    def of(self, study_uid: str) -> tuple[Signal, ...]:
        return self.signals.of(self.spool.key_of(study_uid))


@contextmanager
def running(folder: Path, peers: Peers, **more: Any) -> Iterator[Node]:
    node = Node(folder, peers, **more)
    with node.receiver:
        if node.commitment:
            node.commitment.start()
        try:
            yield node
        finally:
            if node.commitment:
                node.commitment.stop()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with running(tmp_path, Peers()) as started:
        yield started


@contextmanager
def calling(node: Node, *classes: str, aet: str = "MR1", roles: Any = ()) -> Iterator[Any]:
    prepare_pynetdicom()
    association = AE(aet).associate(
        "127.0.0.1",
        node.receiver.port,
        contexts=[build_context(uid) for uid in classes],
        ae_title="VIGIL",
        ext_neg=list(roles),
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def items(*uids: str, keyword: str = "ReferencedSOPInstanceUID", **more: str) -> Sequence:
    made = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID = MRImageStorage
        setattr(item, keyword, uid)
        for name, value in more.items():
            setattr(item, name, value)
        made.append(item)
    return Sequence(made)


def step_begins(*studies: str, state: str = "IN PROGRESS") -> Dataset:
    dataset = Dataset()
    dataset.PerformedProcedureStepStatus = state
    scheduled = []
    for study in studies:
        item = Dataset()
        item.StudyInstanceUID = study
        scheduled.append(item)
    dataset.ScheduledStepAttributesSequence = Sequence(scheduled)
    dataset.PatientName = "Doe^Jane"
    dataset.PatientID = "4711"
    return dataset


def step_ends(*uids: str, state: str = "COMPLETED") -> Dataset:
    series = Dataset()
    series.ReferencedImageSequence = items(*uids)
    dataset = Dataset()
    dataset.PerformedProcedureStepStatus = state
    dataset.PerformedSeriesSequence = Sequence([series])
    return dataset


def create(association: Any, dataset: Dataset, uid: str = STEP) -> int:
    status, _ = association.send_n_create(dataset, ModalityPerformedProcedureStep, uid)
    return int(status.Status)


def change(association: Any, dataset: Dataset, uid: str = STEP) -> Dataset:
    status, _ = association.send_n_set(dataset, ModalityPerformedProcedureStep, uid)
    assert isinstance(status, Dataset)
    return status


def test_a_completed_step_tells_its_study_the_exact_list(node: Node) -> None:
    with calling(node, ModalityPerformedProcedureStep) as association:
        assert create(association, step_begins(STUDY)) == 0x0000
        begun = node.of(STUDY)
    with calling(node, ModalityPerformedProcedureStep) as association:  # the end may come on another one
        assert change(association, step_ends("1.2.4", "1.2.5")).Status == 0x0000

    assert begun == (Signal(kind=SignalKind.PERFORMED_STEP, is_final=False, instances=frozenset()),)
    names = frozenset({instance_file_name("1.2.4"), instance_file_name("1.2.5")})
    assert node.of(STUDY) == (Signal(kind=SignalKind.PERFORMED_STEP, is_final=True, instances=names),)


def test_a_discontinued_step_ends_and_promises_nothing(node: Node) -> None:
    with calling(node, ModalityPerformedProcedureStep) as association:
        create(association, step_begins(STUDY))
        change(association, step_ends("1.2.4", state="DISCONTINUED"))

    (signal,) = node.of(STUDY)
    assert (signal.is_final, signal.instances) == (True, frozenset())


def test_a_step_goes_only_the_way_the_standard_allows(node: Node) -> None:
    with calling(node, ModalityPerformedProcedureStep) as association:
        assert create(association, step_begins(STUDY, state="COMPLETED")) == 0x0106
        assert create(association, step_begins()) == 0x0120
        assert change(association, step_ends("1.2.4")).Status == 0x0112
        assert create(association, step_begins(STUDY)) == 0x0000
        assert create(association, step_begins(STUDY)) == 0x0111
        assert change(association, step_ends("1.2.4", state="ODD")).Status == 0x0106
        assert change(association, step_ends("1.2.4")).Status == 0x0000
        late = change(association, step_ends("1.2.5"))

    assert (late.Status, late.ErrorID) == (0x0110, 0xA710)


def test_more_messages_than_may_wait_pass_on_one_association(node: Node) -> None:
    """Each counts as answered, so none of them closes the connection."""
    with calling(node, ModalityPerformedProcedureStep) as association:
        answers = [create(association, step_begins(STUDY), f"1.2.3.9.{number}") for number in range(20)]

    assert answers == [0x0000] * 20


def test_what_is_kept_of_a_message_names_nobody(node: Node, tmp_path: Path) -> None:
    with calling(node, ModalityPerformedProcedureStep) as association:
        create(association, step_begins(STUDY))
        change(association, step_ends("1.2.4"))

    kept = [path for path in (tmp_path / "signals").rglob("*") if path.is_file()]
    told = " ".join(str(path.relative_to(tmp_path)) + path.read_text() for path in kept)

    assert kept
    assert not any(word in told for word in ("Doe", "4711", "1.2.3", "1.2.4"))


def notice(sop: str, availability: str) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = "1.2.3.1"
    series.ReferencedSOPSequence = items(sop, InstanceAvailability=availability)
    dataset = Dataset()
    dataset.StudyInstanceUID = STUDY
    dataset.ReferencedSeriesSequence = Sequence([series])
    return dataset


@pytest.mark.parametrize(("availability", "is_final"), [("ONLINE", True), ("NEARLINE", False)])
def test_an_availability_notification_tells_its_study(node: Node, availability: str, is_final: bool) -> None:
    with calling(node, InstanceAvailabilityNotification) as association:
        status, _ = association.send_n_create(
            notice("1.2.4", availability), InstanceAvailabilityNotification, "1.2.3.8"
        )
        nothing = Dataset()
        nothing.StudyInstanceUID = STUDY
        empty, _ = association.send_n_create(nothing, InstanceAvailabilityNotification, "1.2.3.7")

    assert (status.Status, empty.Status) == (0x0000, 0x0120)
    assert node.of(STUDY) == (
        Signal(
            kind=SignalKind.AVAILABILITY,
            is_final=is_final,
            instances=frozenset({instance_file_name("1.2.4")}),
        ),
    )


@pytest.mark.parametrize(
    ("availability", "pull", "wanted"), [("ONLINE", "get", 1), ("NEARLINE", "get", 0), ("ONLINE", None, 0)]
)
def test_what_an_archive_announces_is_wanted_where_its_profile_says_so(
    tmp_path: Path, availability: str, pull: str | None, wanted: int
) -> None:
    archive = peer(roles={"sender", "archive"}, port=104, pull=pull)
    with running(tmp_path, Peers((archive,))) as node:
        with calling(node, InstanceAvailabilityNotification) as association:
            for _ in range(2):
                status, _ = association.send_n_create(
                    notice("1.2.4", availability), InstanceAvailabilityNotification, "1.2.3.8"
                )
                assert status.Status == 0x0000
        found = node.pulls.waiting()

    assert [(one.study_uid, one.peer) for one in found] == [(STUDY, archive.name)] * wanted
    assert not [path for path in (tmp_path / "signals").rglob("*") if STUDY in path.name]


def test_an_open_association_is_known_while_it_is_open(node: Node) -> None:
    with calling(node, Verification, aet="MR7") as association:
        assert association.is_established
        wait_for(lambda: node.signals.open_senders() == {"MR7"})  # noted just after it is accepted
    wait_for(lambda: not node.signals.open_senders())


def peer(**more: Any) -> Peer:
    given: dict[str, Any] = {"name": "mr", "aet": "MR1", "host": "127.0.0.1", "roles": ["sender"], **more}
    return Peer.model_validate(given)


def accepted(node: Node, *classes: str, aet: str = "MR1") -> set[str]:
    with calling(node, *classes, aet=aet) as association:
        return {str(context.abstract_syntax) for context in association.accepted_contexts}


def test_a_peer_may_propose_what_its_profile_allows(tmp_path: Path) -> None:
    limited = peer(contexts=(AllowedContext(sop_class=MRImageStorage, syntaxes=(ImplicitVRLittleEndian,)),))
    reporter = peer(name="pacs", aet="PACS", port=104, roles=["destination"], confirm=Confirm.COMMITMENT)
    everything = (
        MRImageStorage,
        CTImageStorage,
        Verification,
        ModalityPerformedProcedureStep,
        StorageCommitmentPushModel,
    )
    with running(tmp_path, Peers((limited, reporter))) as node:
        assert accepted(node, *everything) == {
            MRImageStorage,
            Verification,
            ModalityPerformedProcedureStep,
        }
        assert accepted(node, *everything, aet="PACS") == {Verification, StorageCommitmentPushModel}


def test_a_peer_holds_no_more_associations_than_its_profile_allows(tmp_path: Path) -> None:
    with (
        running(tmp_path, Peers((peer(max_associations=1),))) as node,
        calling(node, Verification) as first,
        calling(node, Verification) as second,
    ):
        assert first.is_established
        assert second.is_rejected


class UnusablePeers(Peers):
    """Peers whose profiles cannot be read, while who may call is known."""

    def calling(self, calling_aet: str, address: str) -> tuple[Peer, ...]:  # noqa: ARG002 - as the real one
        raise RuntimeError("unforeseen")

    def accepts(self, calling_aet: str, address: str) -> bool:  # noqa: ARG002 - as the real one
        return True


def test_a_profile_that_cannot_be_applied_offers_nothing(tmp_path: Path) -> None:
    with (
        running(tmp_path, UnusablePeers((peer(),))) as node,
        calling(node, Verification) as association,
    ):
        assert not association.is_established


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_is_committed_to_unless_it_is_switched_on(tmp_path: Path) -> None:
    with running(tmp_path, Peers((peer(),))) as node, pytest.raises(NotOfferedError):
        ask(node, tmp_path, Reference(sop_class_uid=MRImageStorage, sop_instance_uid="1.2.4"))


def ask(node: Node, folder: Path, *references: Reference) -> Mailbox:
    """Request commitment as another node would."""
    own = Mailbox(folder / "modality")
    request_commitment(
        Line(host="127.0.0.1", port=node.receiver.port, calling_aet="MR1", called_aet="VIGIL"),
        transaction_uid="1.2.99",
        references=references,
        peer="vigil",
        mailbox=own,
    )
    return own


def test_commitment_is_reported_on_the_association_of_its_request(tmp_path: Path) -> None:
    images = Phantom().datasets()[:2]
    with running(tmp_path, Peers((peer(),)), offers_commitment=True) as node:
        for path, image in zip(write(tmp_path / "sent", images), images, strict=True):
            node.spool.store(image.StudyInstanceUID, image.SOPInstanceUID, [path.read_bytes()])
        own = ask(
            node,
            tmp_path,
            Reference(sop_class_uid=MRImageStorage, sop_instance_uid=images[0].SOPInstanceUID),
            Reference(sop_class_uid=CTImageStorage, sop_instance_uid=images[1].SOPInstanceUID),
            Reference(sop_class_uid=MRImageStorage, sop_instance_uid="1.2.4"),
        )

        report = own.report("1.2.99")
        (signal,) = node.of(images[0].StudyInstanceUID)

    assert report is not None
    assert report.held == {instance_file_name(images[0].SOPInstanceUID)}
    assert report.reason(images[1].SOPInstanceUID) == 0x0119
    assert report.reason("1.2.4") == 0x0112
    assert signal.kind is SignalKind.COMMITMENT_REQUEST
    assert not list((tmp_path / "signals" / "requests").iterdir())


def test_what_came_with_two_contents_or_is_being_deleted_is_not_committed_to(tmp_path: Path) -> None:
    images = Phantom().datasets()[:3]
    with running(tmp_path, Peers((peer(),)), offers_commitment=True) as node:
        for path, image in zip(write(tmp_path / "sent", images), images, strict=True):
            stored = node.spool.store(image.StudyInstanceUID, image.SOPInstanceUID, [path.read_bytes()])
        images[0].StudyDescription = "another content"
        (path,) = write(tmp_path / "again", images[:1])
        node.spool.store(images[0].StudyInstanceUID, images[0].SOPInstanceUID, [path.read_bytes()])
        Withdrawn(node.spool).take_out(stored.study_key, [instance_file_name(images[1].SOPInstanceUID)])
        references = [
            Reference(sop_class_uid=MRImageStorage, sop_instance_uid=image.SOPInstanceUID) for image in images
        ]
        report = ask(node, tmp_path, *references).report("1.2.99")

    assert report is not None
    assert [report.reason(image.SOPInstanceUID) for image in images[:2]] == [0x0110, 0x0112]
    assert report.held == {instance_file_name(images[2].SOPInstanceUID)}


def test_commitment_waits_for_what_is_still_in_the_log(tmp_path: Path) -> None:
    (image, *_) = Phantom().datasets()
    (path,) = write(tmp_path / "sent", [image])
    looks: list[bool] = []

    def is_settled() -> bool:
        """Not at the first look; the instance becomes a file of the spool after the second was asked for."""
        looks.append(True)
        if len(looks) == 2:
            node.spool.store(image.StudyInstanceUID, image.SOPInstanceUID, [path.read_bytes()])
        return len(looks) > 2

    with running(tmp_path, Peers((peer(),)), offers_commitment=True, is_settled=is_settled) as node:
        reference = Reference(sop_class_uid=MRImageStorage, sop_instance_uid=image.SOPInstanceUID)
        report = ask(node, tmp_path, reference).report("1.2.99")

    assert report is not None
    assert report.held == {instance_file_name(image.SOPInstanceUID)}


def test_what_is_committed_to_is_durable_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image, *_) = Phantom().datasets()
    (path,) = write(tmp_path / "sent", [image])
    synced: list[Path] = []
    real_fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real_fsync(descriptor)

    with running(tmp_path, Peers((peer(),)), offers_commitment=True) as node:
        stored = node.spool.store(image.StudyInstanceUID, image.SOPInstanceUID, [path.read_bytes()]).path
        # As a moment ago, when another process had linked the file and not yet synced the folder.
        monkeypatch.setattr(os, "fsync", watch)
        reference = Reference(sop_class_uid=MRImageStorage, sop_instance_uid=image.SOPInstanceUID)
        assert ask(node, tmp_path, reference).report("1.2.99") is not None

    assert {stored.parent, stored.parent.parent} <= set(synced)


def test_requests_for_commitment_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitment_provider, "MOST_REQUESTS", 2)
    wanted = Dataset()
    wanted.ReferencedSOPSequence = items("1.2.4")
    statuses = []
    with (
        running(tmp_path, Peers((peer(),)), offers_commitment=True, is_settled=lambda: False) as node,
        calling(node, StorageCommitmentPushModel) as association,
    ):
        for number in range(4):
            wanted.TransactionUID = f"1.2.97.{number}"
            status, _ = association.send_n_action(wanted, 1, StorageCommitmentPushModel, COMMITMENT_INSTANCE)
            statuses.append(status.Status)

    assert statuses == [0x0000, 0x0000, 0x0213, 0x0213]


def test_commitment_is_reported_on_a_new_association_where_the_first_has_gone(tmp_path: Path) -> None:
    prepare_pynetdicom()
    reported: list[int] = []

    def take(event: Any) -> tuple[int, None]:
        reported.append(event.event_type)
        return 0x0000, None

    context = build_context(StorageCommitmentPushModel)
    context.scu_role, context.scp_role = False, True
    modality = AE("MR1").start_server(
        ("127.0.0.1", 0), block=False, contexts=[context], evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)]
    )
    (image, *_) = Phantom().datasets()
    (path,) = write(tmp_path / "sent", [image])
    wanted = Dataset()
    wanted.TransactionUID = "1.2.98"
    wanted.ReferencedSOPSequence = items(image.SOPInstanceUID)
    try:
        peers = Peers((peer(port=modality.server_address[1]),))
        with running(tmp_path, peers, offers_commitment=True) as node:
            node.spool.store(image.StudyInstanceUID, image.SOPInstanceUID, [path.read_bytes()])
            with calling(node, StorageCommitmentPushModel) as association:
                status, _ = association.send_n_action(
                    wanted, 1, StorageCommitmentPushModel, COMMITMENT_INSTANCE
                )
            wait_for(lambda: reported)
    finally:
        modality.shutdown()

    assert status.Status == 0x0000
    assert reported == [1]


def test_a_report_comes_in_on_an_association_of_the_destination(tmp_path: Path) -> None:
    pacs = peer(name="pacs", aet="PACS", port=104, roles=["destination"], confirm=Confirm.COMMITMENT)
    other = peer(name="other", aet="OTHER", port=104, roles=["destination"], confirm=Confirm.COMMITMENT)
    information = Dataset()
    information.TransactionUID = "1.2.97"
    information.ReferencedSOPSequence = items("1.2.4")
    role = build_role(StorageCommitmentPushModel, scp_role=True)

    def report(node: Node, aet: str) -> int:
        with calling(node, StorageCommitmentPushModel, aet=aet, roles=[role]) as association:
            status, _ = association.send_n_event_report(
                information, 1, StorageCommitmentPushModel, COMMITMENT_INSTANCE
            )
            return int(status.Status)

    with running(tmp_path, Peers((pacs, other))) as node:
        unasked = report(node, "PACS")
        node.mailbox.ask("1.2.97", "pacs")
        forged = report(node, "OTHER")
        between = node.mailbox.report("1.2.97")
        taken = report(node, "PACS")
        kept = node.mailbox.report("1.2.97")

    assert (unasked, forged, between, taken) == (0x0112, 0x0112, None, 0x0000)
    assert kept is not None
    assert kept.holds("1.2.4")


def test_a_line_needs_a_port() -> None:
    with pytest.raises(ValueError, match="mr has no port"):
        line_to(peer(), calling_aet="VIGIL")
