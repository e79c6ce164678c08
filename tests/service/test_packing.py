"""Node and worker with nothing in common but database and store."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dicom_node.pack import INDEX
from dicom_node.spool import Spool
from models.catalogue import active_artefact
from models.documents import SiteCalibration
from models.predictor import Predictor
from service import engine, orders, packing
from service.admission import Admission
from service.engine import Pool
from service.errors import (
    InstancesMissingError,
    NewerObjectError,
    ObjectDamagedError,
    ObjectMissingError,
    ScratchFullError,
    SettingsError,
    StorageAwayError,
    StorageError,
)
from service.intake import Intake
from service.packing import Packing
from service.provision import Provision
from service.reaper import Reaper
from service.replay import replay
from service.shares import Shares
from service.storage import ObjectStore
from service.storage.folder import FolderStore
from service.storage.scratch import Scratch
from service.store import Store, audit, jobs, packs
from service.store.objects import AtHand, ResultFolder, ResultStore
from service.store.tables import AuditRow, RevisionRow, ScoreRow, StudyRow
from service.study import CANCELLED, PackState, State
from service.triage import Triage
from tests.conftest import empty
from tests.fakes import FixedCalibration, FixedModel
from tests.ordered import ordered
from tests.phantoms import Phantom, write

pytestmark = pytest.mark.postgres

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PHANTOM = Phantom()
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(active_artefact())


@dataclass
class Machines:
    """A node and a worker, each with a data folder of its own, over one database and one store."""

    store: Store
    folder: Path
    predictor: Predictor
    objects: ObjectStore

    def __post_init__(self) -> None:
        self.spool = Spool(self.folder / "node" / "spool", b"s" * 32, free_mark_bytes=0)
        self.scratch = Scratch(self.folder / "worker" / "scratch", most_bytes=None)
        self.admission = Admission(
            model_hash=lambda: self.predictor.identity.sha256, config_digest=FixedCalibration().config_digest
        )
        self.intake = Intake(
            store=self.store,
            spool=self.spool,
            model_hash=self.predictor.identity.sha256,
            config_digest=FixedCalibration().config_digest,
            quiet_s=lambda _: 1.0,
            is_packing=True,
        )
        self.packing = self.packing_to(self.objects)

    def packing_to(self, objects: ObjectStore | None) -> Packing:
        return Packing(
            store=self.store,
            spool=self.spool,
            objects=objects,
            admission=self.admission,
            scratch=Scratch(self.folder / "node" / "scratch", most_bytes=None),
        )

    def triage(self, objects: ObjectStore | None = None) -> Triage:
        place = objects or self.objects
        return Triage(
            store=self.store,
            provision=Provision(
                spool_folder=self.folder / "worker" / "spool", objects=place, scratch=self.scratch
            ),
            objects=ResultStore(place, self.scratch, ResultFolder(self.folder / "worker" / "results")),
            models=FixedModel(self.predictor),
            places=Shares(1),
            memory=Shares(1 << 40),
            scratch_folder=Path("unused"),
            in_force=FixedCalibration().in_force,
            destinations=lambda _: ("pacs",),
            max_voxels=1 << 24,
            attempts=3,
        )

    def receive(self, phantom: Phantom = PHANTOM, *, slices: slice = slice(None)) -> None:
        for dataset in phantom.datasets()[slices]:
            (path,) = write(self.folder / "sent", [dataset])
            self.key = self.spool.store(
                dataset.StudyInstanceUID, dataset.SOPInstanceUID, [path.read_bytes()]
            ).study_key

    def complete(self) -> None:
        self.intake.step(LATER)

    def work(self, triage: Triage | None = None) -> list[Exception]:
        """Do every job that waits, as a worker does."""
        triage = triage or self.triage()
        errors: list[Exception] = []
        for score_id in self.take_jobs():
            try:
                triage.run(score_id)
            except StorageError as error:
                errors.append(error)
                triage.failed(score_id, error)
        return errors

    def take_jobs(self) -> list[int]:
        with self.store.transaction() as session:
            ids = session.scalars(select(ScoreRow.id).where(ScoreRow.state == State.QUEUED)).all()
            return [score_id for score_id in ids if engine.cancel(session, Pool.INFER, score_id)]

    def study(self) -> StudyRow:
        with self.store.transaction() as session:
            return session.scalars(select(StudyRow)).one()

    def revisions(self) -> list[RevisionRow]:
        with self.store.transaction() as session:
            return list(session.scalars(select(RevisionRow).order_by(RevisionRow.number)))

    def actions(self) -> list[str]:
        with self.store.transaction() as session:
            audit.verify(session)
            return list(session.scalars(select(AuditRow.action).order_by(AuditRow.number)))

    def packs(self) -> list[Path]:
        return sorted((self.folder / "share" / "packs").rglob("*.tar"))

    def results(self) -> list[Path]:
        return sorted((self.folder / "share" / "results").rglob("*.dcm"))


@pytest.fixture
def idle(store: Store, tmp_path: Path, predictor: Predictor) -> Machines:
    return Machines(store, tmp_path, predictor, FolderStore(tmp_path / "share"))


@pytest.fixture
def machines(idle: Machines) -> Machines:
    idle.receive()
    return idle


def test_a_study_goes_from_one_machine_to_the_other_by_its_pack(machines: Machines) -> None:
    machines.complete()
    assert machines.study().state is State.COMPLETE
    assert machines.take_jobs() == []  # no worker may take it before

    machines.packing.step(NOON)
    (pack,) = machines.packs()
    (revision,) = machines.revisions()
    assert pack.name == f"{revision.content_hash}.tar"
    assert (revision.pack, revision.pack_bytes) == (PackState.CONFIRMED, pack.stat().st_size)
    assert machines.study().state is State.QUEUED

    assert machines.work() == []
    assert machines.study().state is State.NOT_ASSESSABLE
    assert len(machines.results()) == 1
    assert not (machines.folder / "worker" / "spool").exists()
    assert machines.actions() == [
        "study.received",
        "study.completed",
        "pack.confirmed",
        "study.queued",
        "study.not_assessable",
    ]


def test_the_results_are_those_of_a_worker_beside_the_node(
    machines: Machines, store: Store, tmp_path: Path
) -> None:
    machines.complete()
    machines.packing.step(NOON)
    (score_id,) = machines.take_jobs()
    with store.transaction() as session:
        job = jobs.find(session, score_id)
    assert job is not None
    elsewhere = machines.triage()
    beside = Triage(
        store=store,
        provision=Provision(spool_folder=tmp_path / "node" / "spool"),
        objects=ResultFolder(tmp_path / "node" / "results"),
        models=FixedModel(machines.predictor),
        places=Shares(1),
        memory=Shares(1 << 40),
        scratch_folder=Path("unused"),
        in_force=FixedCalibration().in_force,
        destinations=lambda _: (),
        max_voxels=1 << 24,
        attempts=3,
    )
    here = beside._judge(replace(job, pack=None), machines.predictor, SiteCalibration())

    assert [
        result.sha256 for result in elsewhere._judge(job, machines.predictor, SiteCalibration()).results
    ] == [result.sha256 for result in here.results]


def test_scratch_is_empty_afterwards(machines: Machines) -> None:
    machines.complete()
    machines.packing.step(NOON)
    machines.work()

    left = [path for path in machines.scratch._root.rglob("*") if path.is_file() and path.name != ".lock"]
    assert left == []
    machines.scratch.close()
    assert list(machines.scratch._root.iterdir()) == []


def test_making_a_pack_twice_changes_nothing(machines: Machines) -> None:
    machines.complete()
    other = machines.packing_to(machines.objects)
    with machines.store.transaction() as session:
        (wanted,) = packs.wanted(session, limit=9)

    machines.packing._make(wanted, NOON)
    other._make(wanted, NOON)

    assert machines.actions().count("study.queued") == 1
    assert len(machines.take_jobs()) == 1


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def add(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("spoil", "code", "error"),
    [
        (flip, "pack_damaged", ObjectDamagedError),
        (cut, "pack_damaged", ObjectDamagedError),
        (add, "pack_damaged", ObjectDamagedError),
        (Path.unlink, "pack_missing", ObjectMissingError),
    ],
)
def test_a_pack_that_is_not_what_was_written_is_made_again(
    machines: Machines, spoil: Callable[[Path], None], code: str, error: type[Exception]
) -> None:
    machines.complete()
    machines.packing.step(NOON)
    (pack,) = machines.packs()
    spoil(pack)

    (told,) = machines.work()
    assert isinstance(told, error)
    (revision,) = machines.revisions()
    assert (revision.pack, revision.pack_reason) == (PackState.WANTED, code)
    assert machines.study().state is State.QUEUED
    assert Reaper(store=machines.store, stalled_s=30).step() == 0  # nothing to rescue: the pack comes first

    machines.packing.step(NOON)
    assert machines.work() == []
    assert machines.study().state is State.NOT_ASSESSABLE
    assert "pack.refused" in machines.actions()


@pytest.mark.parametrize("gone", [True, False])
def test_a_pack_that_nobody_can_make_again_ends_the_study_with_its_code(
    machines: Machines, gone: bool
) -> None:
    machines.complete()
    machines.packing.step(NOON)
    flip(machines.packs()[0])
    received = machines.spool.instances(machines.key)
    if gone:
        shutil.rmtree(machines.folder / "node" / "spool" / machines.key)
    else:
        flip(received[0].path)

    machines.work()
    machines.packing.step(NOON)

    study = machines.study()
    assert (study.state, study.reason) == (State.FAILED, "instances_missing")
    assert "sent again" in study.detail
    (revision,) = machines.revisions()
    assert (revision.pack, revision.pack_reason) == (PackState.LOST, "pack_damaged")
    assert machines.take_jobs() == []
    assert machines.results() == []


def test_a_study_whose_files_went_before_it_was_packed_fails_and_comes_back_when_they_do(
    machines: Machines,
) -> None:
    machines.complete()
    folder = machines.folder / "node" / "spool" / machines.key
    folder.rename(machines.folder / "away")
    machines.packing.step(NOON)
    assert (machines.study().state, machines.study().reason) == (State.FAILED, "instances_missing")

    (machines.folder / "away").rename(folder)
    ordered(machines.store, replay, machines.key)
    assert machines.work() == []  # the replayed job finds no pack yet, and says nothing
    machines.packing.step(NOON)
    assert machines.work() == []

    assert machines.study().state is State.NOT_ASSESSABLE


def newer(path: Path) -> None:
    """As a later release might write it."""
    content = json.dumps({"format": 7}).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(INDEX)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    path.write_bytes(archive.getvalue())


def test_a_pack_of_a_later_release_is_refused_with_the_remedy_and_kept(machines: Machines) -> None:
    machines.complete()
    machines.packing.step(NOON)
    (pack,) = machines.packs()
    newer(pack)
    before = pack.read_bytes()

    told = [error for _ in range(3) for error in machines.work()]

    assert [type(error) for error in told] == [NewerObjectError] * 3
    study = machines.study()
    assert (study.state, study.reason) == (State.FAILED, "pack_newer")
    assert "Update Vigil" in study.detail
    assert pack.read_bytes() == before  # another machine may read it well


class Away(FolderStore):
    """A store that does not answer."""

    def put(self, name: str, parts: Iterable[bytes]) -> None:  # noqa: ARG002 - the protocol's
        raise StorageAwayError(StorageAwayError.__doc__)

    def open(self, name: str) -> Any:  # noqa: ARG002 - the protocol's
        raise StorageAwayError(StorageAwayError.__doc__)


def test_a_store_that_is_away_costs_no_study_an_attempt(machines: Machines, tmp_path: Path) -> None:
    machines.complete()
    waiting = machines.packing_to(Away(tmp_path))
    waiting.step(NOON)
    assert machines.study().state is State.COMPLETE
    machines.packing.step(NOON)
    away = machines.triage(Away(tmp_path))

    for _ in range(5):
        assert [type(error) for error in machines.work(away)] == [StorageAwayError]

    assert machines.work() == []
    assert machines.study().state is State.NOT_ASSESSABLE


@dataclass(frozen=True)
class Picky(FolderStore):
    """A store that does not take one study."""

    refused: str = ""

    def put(self, name: str, parts: Iterable[bytes]) -> None:
        if self.refused in name:
            raise StorageAwayError(StorageAwayError.__doc__)
        FolderStore.put(self, name, parts)


def test_a_study_the_store_does_not_take_delays_no_other(machines: Machines, tmp_path: Path) -> None:
    refused = machines.key
    machines.receive(Phantom(name="other"))
    machines.complete()
    packing = machines.packing_to(Picky(tmp_path / "share", refused=refused))

    packing.step(NOON)
    packing.step(NOON)

    with machines.store.transaction() as session:
        states = dict(session.execute(select(StudyRow.key, StudyRow.state)).all())
    assert states.pop(refused) is State.COMPLETE
    assert list(states.values()) == [State.QUEUED]


def test_a_study_that_cannot_be_packed_delays_no_other(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = machines.key
    machines.receive(Phantom(name="other"))
    machines.complete()
    real = packing.storage.pack_name

    def broken(key: str, content_hash: str) -> str:
        if key == bad:
            raise ValueError("unforeseen")
        return real(key, content_hash)

    monkeypatch.setattr(packing.storage, "pack_name", broken)
    machines.packing.step(NOON)

    with machines.store.transaction() as session:
        states = dict(session.execute(select(StudyRow.key, StudyRow.state)).all())
    assert states.pop(bad) is State.COMPLETE
    assert list(states.values()) == [State.QUEUED]


def test_a_study_cancelled_before_its_pack_is_failed_and_comes_back_by_a_replay(machines: Machines) -> None:
    machines.complete()

    assert ordered(machines.store, orders.cancel, machines.key).changed
    assert not ordered(machines.store, orders.cancel, machines.key).changed
    machines.packing.step(NOON)

    assert (machines.study().state, machines.study().reason) == (State.FAILED, CANCELLED)
    assert machines.packs() == []
    assert machines.actions()[-2:] == ["study.queued", "study.failed"]
    ordered(machines.store, replay, machines.key)
    machines.packing.step(NOON)
    assert machines.work() == []
    assert machines.study().state is State.NOT_ASSESSABLE


@dataclass(frozen=True, slots=True)
class Interrupting(FolderStore):
    """A person cancels while the pack is uploaded."""

    cancel: Callable[[], object] = lambda: None

    def put(self, name: str, parts: Iterable[bytes]) -> None:
        self.cancel()
        FolderStore.put(self, name, parts)


def test_a_study_cancelled_while_its_pack_is_written_is_not_queued(
    machines: Machines, tmp_path: Path
) -> None:
    machines.complete()
    place = Interrupting(
        tmp_path / "share", cancel=lambda: ordered(machines.store, orders.cancel, machines.key)
    )
    making = machines.packing_to(place)

    making.step(NOON)
    assert machines.study().state is State.COMPLETE
    assert machines.packs() == []
    making.step(NOON)

    assert (machines.study().state, machines.study().reason) == (State.FAILED, CANCELLED)


def test_a_cancelled_study_stays_so_when_its_pack_is_made_again_for_another_model(
    machines: Machines,
) -> None:
    machines.complete()
    machines.packing.step(NOON)
    flip(machines.packs()[0])
    machines.work()
    ordered(machines.store, orders.cancel, machines.key)
    machines.packing.admission = Admission(
        model_hash=lambda: "b" * 64, config_digest=FixedCalibration().config_digest
    )

    machines.packing.step(NOON)

    assert [revision.pack for revision in machines.revisions()] == [PackState.CONFIRMED]
    assert (machines.study().state, machines.study().reason) == (State.FAILED, CANCELLED)
    assert machines.actions().count("study.queued") == 1


def test_a_parked_study_whose_files_are_gone_says_so(machines: Machines) -> None:
    machines.complete()
    machines.packing.step(NOON)
    flip(machines.packs()[0])
    shutil.rmtree(machines.folder / "node" / "spool" / machines.key)
    machines.work()
    ordered(machines.store, orders.park, machines.key)

    machines.packing.step(NOON)

    assert (machines.study().state, machines.study().reason) == (State.FAILED, "instances_missing")
    ordered(machines.store, orders.unpark, machines.key)
    assert machines.take_jobs() == []


def test_a_study_larger_than_the_scratch_is_refused_before_a_byte_is_read(machines: Machines) -> None:
    machines.complete()
    machines.packing.step(NOON)
    machines.scratch = Scratch(machines.folder / "small", most_bytes=1000)

    told = [error for _ in range(3) for error in machines.work()]

    assert [type(error) for error in told] == [ScratchFullError] * 3
    assert machines.study().reason == "scratch_full"


def test_a_worker_without_the_store_says_which_setting_it_lacks(machines: Machines, tmp_path: Path) -> None:
    machines.complete()
    machines.packing.step(NOON)
    (score_id,) = machines.take_jobs()
    with machines.store.transaction() as session:
        job = jobs.find(session, score_id)
    assert job is not None

    with pytest.raises(SettingsError, match="VIGIL_STORE"), Provision(spool_folder=tmp_path).of(job):
        pass


def test_a_study_that_was_never_packed_and_whose_files_are_gone_ends_with_a_code(machines: Machines) -> None:
    machines.intake.is_packing = False
    machines.complete()  # as at a site without a store

    told = [error for _ in range(3) for error in machines.work()]

    assert [type(error) for error in told] == [InstancesMissingError] * 3
    assert (machines.study().state, machines.study().reason) == (State.FAILED, "instances_missing")


def test_a_site_that_gives_up_its_store_goes_on_from_the_spool(machines: Machines) -> None:
    machines.complete()

    machines.packing_to(None).step(NOON)

    (revision,) = machines.revisions()
    assert revision.pack is None
    assert machines.study().state is State.QUEUED


def test_a_late_instance_supersedes_a_pack_that_waits_and_removes_one_that_is_there(idle: Machines) -> None:
    for some in (slice(0, 2), slice(2, 3), slice(3, None)):
        idle.receive(slices=some)
        idle.intake._seen.clear()
        idle.complete()
        if some.start:
            idle.packing.step(NOON)

    assert [revision.pack for revision in idle.revisions()] == [
        PackState.LOST,
        PackState.DELETED,
        PackState.CONFIRMED,
    ]
    (pack,) = idle.packs()
    assert pack.stem == idle.revisions()[-1].content_hash
    assert idle.work() == []
    assert idle.study().state is State.NOT_ASSESSABLE


class Killed(BaseException):
    """The process ends here."""


def test_killed_at_any_step_the_study_is_packed_and_scored_once(
    store: Store, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die before each call that leaves something behind; start anew; everything must come out the same."""
    points = [
        (FolderStore, "put"),
        (FolderStore, "open"),
        (Packing, "_confirm"),
        (Admission, "admit"),
        (Packing, "_remove_outdated"),
    ]
    for number, (owner, name) in enumerate(points):
        empty(store)
        folder = tmp_path / str(number)
        machines = Machines(store, folder, predictor, FolderStore(folder / "share"))
        machines.receive()
        machines.complete()
        with monkeypatch.context() as patch:

            def die(*_: object, **__: object) -> None:
                raise Killed

            patch.setattr(owner, name, die)
            with pytest.raises(Killed):
                machines.packing.step(NOON)

        machines.packing_to(machines.objects).step(NOON)
        assert machines.work() == []

        assert machines.study().state is State.NOT_ASSESSABLE, name
        assert machines.actions().count("study.queued") == 1, name
        assert len(machines.packs()) == 1
        assert list((machines.folder / "share" / ".drafts").iterdir()) == []


def test_a_node_that_stops_leaves_its_uploads_for_the_next_start(machines: Machines) -> None:
    machines.complete()
    stopping = machines.packing_to(machines.objects)
    with machines.store.transaction() as session:
        (wanted,) = packs.wanted(session, limit=9)
    stopping.stop.set()

    with pytest.raises(StorageAwayError, match="stops"):
        stopping._make(wanted, NOON)
    stopping.step(NOON)
    assert machines.packs() == []

    machines.packing.step(NOON)
    assert len(machines.packs()) == 1


def test_pictures_stay_at_hand_and_the_oldest_go(tmp_path: Path) -> None:
    place = FolderStore(tmp_path / "share")
    scratch = Scratch(tmp_path / "scratch", most_bytes=None)
    objects = AtHand(ResultStore(place, scratch, ResultFolder(tmp_path / "before")))
    contents = {f"key/{number}.dcm": bytes([number]) * 100 for number in range(10)}
    for path, content in contents.items():
        place.put(f"results/{path}", [content])

    def read(path: str) -> bytes:
        content = contents[path]
        with objects.local(path, hashlib.sha256(content).hexdigest(), len(content)) as file:
            return file.read_bytes()

    for path, content in contents.items():
        assert read(path) == content
    place.remove("results/key/9.dcm")

    assert read("key/9.dcm") == contents["key/9.dcm"]  # at hand
    place.remove("results/key/0.dcm")
    with pytest.raises(ObjectMissingError):  # long gone
        read("key/0.dcm")
    assert len(list(scratch._root.glob("*/*/*.dcm"))) == 8


@pytest.mark.parametrize("content", [b"other", b"longer than it was", b""])
def test_a_result_of_other_bytes_is_not_sent(tmp_path: Path, content: bytes) -> None:
    place = FolderStore(tmp_path / "share")
    place.put("results/key/a.dcm", [content])
    (tmp_path / "results" / "key").mkdir(parents=True)
    (tmp_path / "results" / "key" / "a.dcm").write_bytes(content)
    sha256 = hashlib.sha256(b"right").hexdigest()
    for objects in (
        ResultStore(place, Scratch(tmp_path / "scratch", most_bytes=None), ResultFolder(tmp_path / "before")),
        ResultFolder(tmp_path / "results"),
    ):
        with pytest.raises(ObjectDamagedError), objects.local("key/a.dcm", sha256, 5):
            pass
        objects.remove_all("key")
        objects.remove_all("key")
        with pytest.raises(ObjectMissingError), objects.local("key/a.dcm", sha256, 5):
            pass


def test_results_from_before_the_site_had_a_store_are_still_sent_and_still_go(tmp_path: Path) -> None:
    older = tmp_path / "results" / "key" / "a.dcm"
    older.parent.mkdir(parents=True)
    older.write_bytes(b"right")
    scratch = Scratch(tmp_path / "scratch", most_bytes=None)
    objects = ResultStore(FolderStore(tmp_path / "share"), scratch, ResultFolder(tmp_path / "results"))

    with objects.local("key/a.dcm", hashlib.sha256(b"right").hexdigest(), 5) as file:
        assert file.read_bytes() == b"right"
    objects.remove_all("key")

    assert not older.exists()
