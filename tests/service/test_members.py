"""Instances that the node took and nobody can read: what is left of their series is no whole."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset
from sqlalchemy import select

from models.artefact import load_artefact
from models.errors import Reason
from models.predictor import AnyPredictor, load_predictor
from service.provision import Provision
from service.storage.folder import FolderStore
from service.store import Store
from service.store.tables import ScoreRow
from service.study import State
from tests.phantoms import Phantom, write
from tests.picture_models import write_artefact
from tests.service.test_packing import NOON, Machines

Damage = Callable[[FileDataset, bytes], bytes]

pytestmark = pytest.mark.postgres

PHANTOM = Phantom(shape=(12, 12, 10))
TAIL = 10  # and the slices after it are the damaged ones


@pytest.fixture(scope="module")
def takes_any_mr(tmp_path_factory: pytest.TempPathFactory) -> AnyPredictor:
    return load_predictor(load_artefact(write_artefact(tmp_path_factory.mktemp("model") / "grey")))


@dataclass
class Way:
    """One way of studies from the node to a worker."""

    machines: Machines
    is_packing: bool

    def receive(self, datasets: list[FileDataset], damage: Damage | None = None) -> None:
        """Let the node take files; the last ones damaged, if so told."""
        for index, dataset in enumerate(datasets):
            (path,) = write(self.machines.folder / "sent", [dataset])
            content = path.read_bytes()
            if damage is not None and index >= TAIL:
                content = damage(dataset, content)
            self.machines.spool.store(dataset.StudyInstanceUID, dataset.SOPInstanceUID, [content])

    def score(self) -> ScoreRow:
        """How the study ends."""
        triage = self.machines.triage()
        if self.is_packing:
            self.machines.complete()
            self.machines.packing.step(NOON)
        else:
            self.machines.intake.is_packing = False
            self.machines.complete()
            triage = replace(
                triage, provision=Provision(spool_folder=self.machines.folder / "node" / "spool")
            )
        assert self.machines.work(triage) == []
        with self.machines.store.transaction() as session:
            return session.scalars(select(ScoreRow)).one()


@pytest.fixture(params=[False, True], ids=["spool", "pack"])
def way(request: pytest.FixtureRequest, store: Store, tmp_path: Path, takes_any_mr: AnyPredictor) -> Way:
    machines = Machines(store, tmp_path, takes_any_mr, FolderStore(tmp_path / "share"))  # type: ignore[arg-type] - of pictures
    return Way(machines, is_packing=request.param)


def behind_the_study(dataset: FileDataset, content: bytes) -> bytes:
    """A file that ends behind its Study Instance UID: the node admits it, and nothing says its series."""
    uid = dataset.StudyInstanceUID.encode()
    return content[: content.index(uid) + len(uid) + len(uid) % 2]


def within(dataset: FileDataset, content: bytes) -> bytes:
    """A file whose series can be read, and whose number of samples is none."""
    del dataset
    samples = bytes.fromhex("28000200") + b"US" + bytes.fromhex("0200")
    assert samples in content
    return content.replace(samples, bytes.fromhex("28000200") + b"US" + bytes.fromhex("0100"))


def another(name: str) -> list[FileDataset]:
    """A smaller series of the same study."""
    of_the_study = PHANTOM.datasets()[0]
    made = Phantom(shape=(9, 12, 10), name=name).datasets()
    for dataset in made:
        for keyword in ("StudyInstanceUID", "PatientID"):
            setattr(dataset, keyword, of_the_study[keyword].value)
    return made


def test_a_whole_series_is_scored(way: Way) -> None:
    way.receive(PHANTOM.datasets())

    assert way.score().state is State.SCORED


@pytest.mark.parametrize("damage", [behind_the_study, within])
def test_what_is_left_of_a_series_is_not_scored_as_if_it_were_whole(way: Way, damage: Damage) -> None:
    way.receive(PHANTOM.datasets(), damage)

    score = way.score()
    assert (score.state, score.reason) == (State.NOT_ASSESSABLE, Reason.UNREADABLE)
    assert score.study_score is None
    assert "2 instances" in score.detail
    notes = sorted((note["instances"], note["reason"]) for note in score.series)
    assert notes == [(2, Reason.UNREADABLE), (TAIL, Reason.UNREADABLE)]


def test_another_whole_series_is_scored_where_the_broken_one_is_known(way: Way) -> None:
    way.receive(PHANTOM.datasets(), within)
    way.receive(another("whole"))

    score = way.score()
    assert score.state is State.SCORED
    (scored,) = (note for note in score.series if note["is_scored"])
    assert scored["instances"] == 9


def test_no_series_is_scored_where_nobody_knows_which_one_is_broken(way: Way) -> None:
    way.receive(PHANTOM.datasets(), behind_the_study)
    way.receive(another("whole"))

    assert (way.score().state, way.score().reason) == (State.NOT_ASSESSABLE, Reason.UNREADABLE)
