import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import ImplicitVRLittleEndian
from sqlalchemy import delete, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from dicom_node.identity import (
    MANUFACTURER,
    MODEL_NAME,
    instance_file_name,
    result_series_uid,
    series_key,
)
from dicom_node.peers import Peers
from dicom_node.results import build_results, encode
from dicom_node.signals import Signal, SignalKind, Signals
from dicom_node.spool import Spool, SpooledInstance
from service import engine
from service.engine import Pool
from service.inquiry import Inquiry
from service.intake import Intake
from service.store import Store, identities, studies
from service.store.tables import (
    AuditRow,
    IdentityRow,
    InstanceRow,
    ResultRow,
    RevisionRow,
    ScoreRow,
    StudyRow,
)
from service.study import Priority, State
from tests.conftest import empty
from tests.dicom_node.results.scenes import PHANTOM, context_of
from tests.fakes import FixedCalibration
from tests.phantoms import Phantom, write

pytestmark = pytest.mark.postgres

SECRET = b"s" * 32
LATER = timedelta(seconds=61)


class Site:
    """A spool, and the intake that watches it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.spool = Spool(folder / "spool", SECRET, free_mark_bytes=0)
        self.intake = self.new_intake()

    def new_intake(self) -> Intake:
        return Intake(
            store=self.store,
            spool=self.spool,
            model_hash="m",
            config_digest=FixedCalibration(digest="c").config_digest,
            quiet_s=lambda _: 60.0,
        )

    def receive(self, datasets: list[FileDataset]) -> None:
        for dataset in datasets:
            (path,) = write(self.folder / "sent", [dataset])
            self.spool.store(dataset.StudyInstanceUID, dataset.SOPInstanceUID, [path.read_bytes()])

    def states(self) -> list[State]:
        with self.store.transaction() as session:
            return list(session.scalars(select(StudyRow.state)))

    def waiting(self) -> int:
        with self.store.transaction() as session:
            return engine.depth(session)[Pool.INFER].waiting


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Site:
    return Site(store, tmp_path)


def now() -> datetime:
    return datetime.now(UTC)


def test_a_study_is_queued_when_it_has_been_quiet_and_not_before(site: Site) -> None:
    site.receive(Phantom().datasets())

    site.intake.step(now())
    before = site.states(), site.waiting()
    site.intake.step(now() + LATER)

    assert before == ([State.RECEIVED], 0)
    assert (site.states(), site.waiting()) == ([State.QUEUED], 1)


def test_looking_again_changes_nothing(site: Site) -> None:
    site.receive(Phantom().datasets())
    for _ in range(3):
        site.intake.step(now() + LATER)

    site.new_intake().step(now() + LATER)  # as after a restart

    with site.store.transaction() as session:
        assert len(session.scalars(select(InstanceRow)).all()) == 6
        assert len(session.scalars(select(RevisionRow)).all()) == 1
        assert len(session.scalars(select(ScoreRow)).all()) == 1
    assert site.waiting() == 1


def test_a_late_instance_makes_a_new_revision_with_a_job_of_its_own(site: Site) -> None:
    slices = Phantom().datasets()
    site.receive(slices[:5])
    site.intake.step(now() + LATER)
    site.receive(slices[5:])

    site.intake.step(now() + LATER)

    with site.store.transaction() as session:
        assert session.scalars(select(RevisionRow.number)).all() == [1, 2]
        held = session.scalars(select(InstanceRow.first_revision)).all()
    assert sorted(number or 0 for number in held) == [1, 1, 1, 1, 1, 2]


def test_an_own_result_is_kept_and_never_queued(site: Site) -> None:
    (report, *_) = Phantom(name="own").datasets()
    report.Manufacturer, report.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    site.receive([report])

    site.intake.step(now() + LATER)

    assert site.states() == []
    assert len(list(site.spool.studies())) == 1


def test_an_own_result_is_known_by_its_uid_even_when_the_archive_rewrote_it(site: Site, store: Store) -> None:
    slices = Phantom().datasets()
    site.receive(slices[:5])
    site.intake.step(now() + LATER)
    with store.transaction() as session:
        score = session.scalars(select(ScoreRow)).one()
        session.add(
            ResultRow(
                score_id=score.id,
                kind="sr",
                sop_class_uid=slices[5].SOPClassUID,
                sop_instance_uid=slices[5].SOPInstanceUID,
                path="x",
                sha256="0",
                bytes=1,
            )
        )
    site.receive(slices[5:])

    site.intake.step(now() + LATER)

    with store.transaction() as session:
        assert session.scalars(select(RevisionRow.number)).all() == [1]


def test_state_job_and_audit_row_come_together(site: Site) -> None:
    site.receive(Phantom().datasets())

    site.intake.step(now() + LATER)

    with site.store.transaction() as session:
        actions = session.scalars(select(AuditRow.action).order_by(AuditRow.number)).all()
        (score,) = session.scalars(select(ScoreRow)).all()
    assert actions == ["study.received", "study.queued"]
    assert (score.model_hash, score.config_digest, score.state) == ("m", "c", State.QUEUED)


def test_a_study_that_completes_after_a_change_of_model_is_queued_for_the_new_one(site: Site) -> None:
    serving = ["m"]
    site.intake.follow = lambda: serving[-1]
    site.receive(Phantom().datasets())
    site.intake.step(now())
    serving.append("n")

    site.intake.step(now() + LATER)

    with site.store.transaction() as session:
        assert session.scalars(select(ScoreRow.model_hash)).all() == ["n"]


def test_no_row_tells_who_the_patient_is(site: Site) -> None:
    (first, *rest) = Phantom().datasets()
    site.receive([first, *rest])
    site.intake.step(now() + LATER)

    with site.store.transaction() as session:
        told = "".join(
            str({name: value for name, value in vars(row).items() if not name.startswith("_")})
            for table in (StudyRow, InstanceRow, RevisionRow, ScoreRow, AuditRow)
            for row in session.scalars(select(table))
        )

    for value in (first.PatientName, first.PatientID, first.StudyInstanceUID, first.SeriesInstanceUID):
        assert str(value) not in told


class SpoolWithOneBadStudy(Spool):
    """A spool whose first study fails in a way nobody foresaw."""

    def studies(self) -> Iterator[tuple[str, int]]:
        yield "a" * 20, 1
        yield from super().studies()

    def instances(self, key: str) -> list[SpooledInstance]:
        if key == "a" * 20:
            raise RuntimeError("unforeseen")
        return super().instances(key)


def test_a_study_that_cannot_be_taken_in_fails_alone(site: Site) -> None:
    site.receive(Phantom().datasets())
    site.spool = SpoolWithOneBadStudy(site.folder / "spool", SECRET, free_mark_bytes=0)

    site.new_intake().step(now() + LATER)

    assert (site.states(), site.waiting()) == ([State.QUEUED], 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\x08\0\x60\0CS\2\0MR", b"\x08\0\x60\0CS\4\0M\0R "),  # no database takes a zero
        (b"\x08\0\x05\0CS\n\0ISO_IR 192", b"\x08\0\x05\0CS\n\0undefined "),  # no text encoding
        (b"\x08\0\x05\0CS\n\0ISO_IR 192", b"\x08\0\x05\0CS\6\0UTF-7 "),  # gives half a character
    ],
    ids=["zero", "undefined", "half"],
)
def test_no_value_of_a_header_keeps_a_study_from_the_list(site: Site, before: bytes, after: bytes) -> None:
    image = Phantom().datasets()[0]
    image.SpecificCharacterSet, image.StudyDescription = "ISO_IR 192", "Schädel +2AA-"
    (path,) = write(site.folder / "sent", [image])
    sent = path.read_bytes()
    assert before in sent
    site.spool.store(image.StudyInstanceUID, image.SOPInstanceUID, [sent.replace(before, after, 1)])

    site.intake.step(now() + LATER)

    assert site.states() == [State.QUEUED]


@pytest.mark.parametrize("tag", [0x00080050, 0x00080060, 0x00100020, 0x00101010], ids=hex)
def test_a_value_that_no_index_takes_stops_neither_its_study_nor_the_others(site: Site, tag: int) -> None:
    """PostgreSQL told it as it tells that it is away, and the intake stood still for all."""
    image = Phantom().datasets()[0]
    digits = b"".join(str(7**power).encode() for power in range(1, 150))  # nothing that compresses well
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # as what the value is meant is not written
    image.add_new(tag, "UN", digits + b"Y ")
    site.receive([image])
    site.receive(Phantom(name="other").datasets()[:1])

    site.intake.step(now() + LATER)

    assert site.states() == [State.QUEUED, State.QUEUED]


def test_a_file_the_disk_damaged_is_accounted_for(site: Site) -> None:
    site.receive(Phantom().datasets())
    (damaged, *_) = sorted((site.folder / "spool").rglob("*.dcm"))
    damaged.write_bytes(b"")

    site.intake.step(now() + LATER)

    with site.store.transaction() as session:
        assert len(session.scalars(select(InstanceRow)).all()) == 6
    assert site.states() == [State.QUEUED]


def test_rows_that_a_lesser_database_lost_are_made_again(site: Site, store: Store) -> None:
    """A failover to a replica that lags: the folder has not changed, the rows are gone."""
    site.receive(Phantom().datasets())
    site.intake.step(now() + LATER)
    empty(store)
    with pytest.raises(OperationalError):
        site.intake.store = Store.open("postgresql://nobody@127.0.0.1:1/none")
        site.intake.step(now() + LATER)
    site.intake.store = store

    site.intake.step(now() + LATER)

    assert site.states() == [State.QUEUED]


def test_what_is_too_much_for_the_database_holds_up_no_other_study(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.receive(Phantom().datasets())
    site.receive(Phantom(name="other").datasets())
    (refused, _) = sorted(key for key, _ in site.intake.spool.studies())
    register = studies.register

    def too_much(session: Session, key: str, *rest: Any, **named: Any) -> object:
        if key == refused:
            session.execute(text("SELECT array_fill(0, ARRAY[200000000])"))
        return register(session, key, *rest, **named)

    monkeypatch.setattr(studies, "register", too_much)

    site.intake.step(now() + LATER)

    assert site.states() == [State.QUEUED]


def test_text_that_no_database_takes_is_cleaned(site: Site) -> None:
    (first, *_) = Phantom().datasets()
    first.StudyDescription = "He\x00ad\x1b"
    site.receive([first])

    site.intake.step(now() + LATER)

    with site.store.transaction() as session:
        description = session.scalars(select(StudyRow.description)).one()
    assert description.isprintable()
    assert description.startswith("He")


def completed_by(site: Site) -> list[str]:
    with site.store.transaction() as session:
        return list(session.scalars(select(RevisionRow.completed_by).order_by(RevisionRow.number)))


def listed(datasets: list[FileDataset], *, is_final: bool = True) -> Signal:
    return Signal(
        kind=SignalKind.PERFORMED_STEP,
        is_final=is_final,
        instances=frozenset(instance_file_name(dataset.SOPInstanceUID) for dataset in datasets),
    )


def test_the_modalitys_list_completes_a_study_before_it_is_quiet(site: Site) -> None:
    slices = Phantom().datasets()
    key = site.spool.key_of(slices[0].StudyInstanceUID)
    site.intake.signals = signals = Signals(site.folder / "signals")
    signals.put(key, "1.2.3", listed(slices))
    site.receive(slices[:-1])
    site.intake.step(now())
    before = site.states()

    site.receive(slices[-1:])
    site.intake.step(now())

    assert before == [State.RECEIVED]
    assert site.states() == [State.QUEUED]
    assert completed_by(site) == ["mpps"]


def test_an_announced_instance_is_waited_for_and_its_absence_recorded(site: Site) -> None:
    slices = Phantom().datasets()
    site.intake.signals = signals = Signals(site.folder / "signals")
    signals.put(site.spool.key_of(slices[0].StudyInstanceUID), "1.2.3", listed(slices))
    site.receive(slices[:-1])

    site.intake.step(now() + LATER)
    before = site.states()
    site.intake.step(now() + timedelta(seconds=site.intake.longest_wait_s + 1))

    assert before == [State.RECEIVED]
    assert completed_by(site) == ["longest_wait"]


def test_an_open_association_of_the_sender_holds_a_quiet_study(site: Site) -> None:
    (first, *_) = Phantom().datasets()
    first.file_meta.SourceApplicationEntityTitle = "MR1"
    site.intake.signals = signals = Signals(site.folder / "signals")
    site.receive([first])
    signals.association_opened(1, "MR1")
    site.intake.step(now() + LATER)
    before = site.states()

    signals.association_closed(1)
    site.intake.step(now() + LATER)

    assert before == [State.RECEIVED]
    assert completed_by(site) == ["quiet_period"]


def test_two_patients_in_one_study_are_flagged_and_one_is_not(site: Site) -> None:
    one = Phantom(name="one").datasets()
    two = Phantom(name="two").datasets()
    two[0].PatientID = "SOMEBODY ELSE"
    two[1].PatientID = ""  # unstated says nothing
    site.receive([*one, *two])

    site.intake.step(now())

    with site.store.transaction() as session:
        flags = {row.key: row.flag for row in session.scalars(select(StudyRow))}
        actions = session.scalars(select(AuditRow.action)).all()
    assert flags == {
        site.spool.key_of(one[0].StudyInstanceUID): None,
        site.spool.key_of(two[0].StudyInstanceUID): "patient_conflict",
    }
    assert actions.count("study.flagged") == 1


def test_a_study_of_which_an_image_came_with_two_contents_is_flagged_whenever_that_was(site: Site) -> None:
    before, after, one = (Phantom(name=name).datasets() for name in ("before", "after", "one"))
    site.receive([*before, *after, *one, one[0]])

    def receive_otherwise(dataset: FileDataset) -> None:
        dataset.StudyDescription = "another content"
        site.receive([dataset])

    receive_otherwise(before[2])  # the intake has not seen its study yet
    site.intake.step(now())
    receive_otherwise(after[2])
    site.intake.step(now())
    site.new_intake().step(now())  # as after a restart

    with site.store.transaction() as session:
        flags = {row.key: row.flag for row in session.scalars(select(StudyRow))}
        actions = session.scalars(select(AuditRow.action)).all()
    assert flags == {
        site.spool.key_of(before[0].StudyInstanceUID): "content_conflict",
        site.spool.key_of(after[0].StudyInstanceUID): "content_conflict",
        site.spool.key_of(one[0].StudyInstanceUID): None,
    }
    assert actions.count("study.flagged") == 2


def test_an_own_result_that_came_with_two_contents_flags_no_study(site: Site) -> None:
    slices = Phantom().datasets()
    (report, *_) = Phantom(name="own").datasets()
    report.Manufacturer, report.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    report.StudyInstanceUID = slices[0].StudyInstanceUID
    site.receive([*slices, report])
    report.StudyDescription = "as the archive has it"
    site.receive([report])

    site.intake.step(now())

    assert len(list(site.spool.quarantined.iterdir())) == 1
    with site.store.transaction() as session:
        assert session.scalars(select(StudyRow.flag)).all() == [None]


def test_two_patients_are_told_before_two_contents(site: Site) -> None:
    datasets = Phantom().datasets()
    site.receive(datasets[:2])
    datasets[0].StudyDescription = "another content"
    site.receive(datasets[:1])
    site.intake.step(now())
    datasets[2].PatientID = "SOMEBODY ELSE"
    site.receive(datasets[2:])

    site.intake.step(now())

    with site.store.transaction() as session:
        assert session.scalars(select(StudyRow.flag)).all() == ["patient_conflict"]


def morph_texts(dataset: FileDataset) -> None:
    dataset.Manufacturer, dataset.ManufacturerModelName = "Archive Inc.", "Normaliser"
    dataset.SeriesDescription = "renamed"
    del dataset.CodingSchemeIdentificationSequence


def morph_uids(dataset: FileDataset) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.SeriesInstanceUID = "1.2.3.5"


@pytest.mark.parametrize("morphs", [[morph_texts], [morph_uids], [morph_texts, morph_uids]])
def test_an_own_result_is_known_whatever_an_archive_did_to_it(
    site: Site, morphs: list[Callable[[FileDataset], None]]
) -> None:
    """Without its row: as where a backup was restored, or another Vigil of the same model made it."""
    context = context_of(site.folder / "sources", PHANTOM.datasets())
    site.intake.model_hash = context.model.sha256
    results = [dcmread(BytesIO(encode(result.dataset))) for result in build_results(context)]
    for result in results:
        for morph in morphs:
            morph(result)
    site.receive(results)

    site.intake.step(now() + LATER)

    assert site.states() == []
    assert len(list(site.spool.studies())) == 1


class Told(Inquiry):
    """Peers that have answered already."""

    answer: Mapping[str, int] | None = None
    urgency: Priority | None = None

    def counts(self, key: str) -> Mapping[str, int] | None:  # noqa: ARG002 - as the real one
        return self.answer

    def priority(self, key: str) -> Priority | None:  # noqa: ARG002 - as the real one
        return self.urgency


@pytest.fixture
def told(site: Site) -> Told:
    site.intake.inquiry = told = Told(peers=Peers(), spool=site.spool, calling_aet="VIGIL")
    return told


def test_an_archive_that_counts_as_many_completes_a_study_whatever_it_holds_of_ours(
    site: Site, told: Told
) -> None:
    slices = Phantom().datasets()
    series = series_key(slices[0].SeriesInstanceUID)
    site.receive(slices[:5])
    told.answer = {series: 5}
    site.intake.step(now())
    with site.store.transaction() as session:
        session.add(
            ResultRow(
                score_id=session.scalars(select(ScoreRow.id)).one(),
                kind="sr",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
                sop_instance_uid="1.2.3.4",
                path="x",
                sha256="0",
                bytes=1,
            )
        )

    site.receive(slices[5:])
    site.intake.step(now())  # the archive has not got it yet
    between = completed_by(site)
    told.answer = {series: 6, series_key(result_series_uid("1.2.3.4")): 1}
    site.intake.step(now())

    assert between == ["archive_count"]
    assert completed_by(site) == ["archive_count", "archive_count"]


def test_an_order_raises_the_priority_of_its_study_and_never_lowers_it(site: Site, told: Told) -> None:
    slices = Phantom().datasets()
    priorities = []
    for part, urgency in ((slices[:4], Priority.STAT), (slices[4:], Priority.URGENT)):
        told.urgency = urgency
        site.receive(part)
        site.intake.step(now() + LATER)
        with site.store.transaction() as session:
            priorities.append(session.scalars(select(StudyRow.priority)).one())

    assert priorities == [Priority.STAT, Priority.STAT]
    with site.store.transaction() as session:
        assert session.scalars(select(AuditRow.action)).all().count("study.prioritised") == 1


def test_messages_that_concern_nobody_any_more_are_removed_while_the_node_runs(site: Site) -> None:
    site.intake.signals = signals = Signals(site.folder / "signals")
    for uid in ("1.2.3", "1.2.4"):
        signals.put("a" * 20, uid, listed([]))
    old, _ = sorted((site.folder / "signals" / "studies" / ("a" * 20)).iterdir())
    os.utime(old, (0, 0))

    site.intake.step(now())

    assert len(signals.of("a" * 20)) == 1


def test_a_study_says_whom_it_is_about_and_a_later_image_only_fills_what_was_left_out(site: Site) -> None:
    first, second, *_ = Phantom().datasets()
    for image in (first, second):
        image.PatientName, image.PatientID, image.AccessionNumber = "Doe^Jane", "", ""
    second.PatientName, second.AccessionNumber = "Other^Name", "A1"
    for image in (first, second):
        site.receive([image])
        site.intake.step(now())
    key = site.spool.key_of(first.StudyInstanceUID)

    with site.store.transaction() as session:
        (identity,) = identities.of_studies(session, [key, "unknown"]).values()
        session.execute(delete(IdentityRow))
    assert (identity.name, identity.accession_number) == ("Doe^Jane", "A1")
    assert identity.study_uid == first.StudyInstanceUID

    site.new_intake().step(now())  # as after an upgrade from a release that kept no identities

    with site.store.transaction() as session:
        assert identities.of_studies(session, [key])[key].study_uid == first.StudyInstanceUID
