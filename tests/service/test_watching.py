"""A scanner is upgraded: through the real worker, from the alarm to the percentile that comes back."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.kinds import ResultKind
from dicom_node.spool import Spool
from models.artefact import load_artefact
from models.documents import CalibrationDocument, ReferenceStudy, strata_of
from models.groups import Group
from models.predictor import AnyPredictor, load_predictor
from service.admission import Admission
from service.calibrations import Calibrations
from service.commissioning import rescore_calibrated
from service.provision import Provision
from service.replay import rescore
from service.selection import judge
from service.shares import Shares
from service.store import Store, audit, calibrations, jobs, studies, watch_lists
from service.store.objects import ResultFolder
from service.store.tables import (
    AuditRow,
    StudyRow,
)
from service.study import Band, Origin, State
from service.triage import Triage
from service.watching import Watching
from tests.fakes import FixedModel
from tests.phantoms import Phantom, set_pixels, write
from tests.picture_models import write_artefact
from tests.service.test_studies import NOON, arrival_of

pytestmark = pytest.mark.postgres

SECRET = b"s" * 32
SCANNER = Group(
    modality="MR",
    body_part="unstated",
    sequence="T1",
    manufacturer="PHANTOM",
    model_name="unstated",
    age_band="40-59",
    site="north",
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> AnyPredictor:
    artefact = load_artefact(write_artefact(tmp_path_factory.mktemp("artefact") / "grey"))
    return load_predictor(artefact, providers=("CPUExecutionProvider",))


def images(name: str, noise: float) -> list[FileDataset]:
    """A study of the scanner: a ramp with noise."""
    phantom = Phantom(shape=(3, 24, 24), bright=(1, 7, 4), name=name)
    rng = np.random.default_rng([ord(letter) for letter in name])
    made = phantom.datasets()
    for dataset in made:
        ramp = np.linspace(300, 900, 24)[None, :] + np.zeros((24, 1))
        set_pixels(dataset, np.clip(rng.normal(ramp, noise), 1, None).astype(np.uint16))
    return made


@dataclass
class Hospital:
    """One scanner, a real worker, and the loop that watches."""

    store: Store
    folder: Path
    predictor: AnyPredictor
    calibrations: Calibrations = field(default_factory=lambda: Calibrations(site="north"))
    made: int = 0

    def reference(self, noise: float, count: int = 80) -> list[ReferenceStudy]:
        """Studies of the scanner as a calibration takes them."""
        found = []
        for number in range(count):
            paths = write(self.folder / f"reference{noise}-{number}", images(f"r{number}", noise))
            measured = judge(paths, self.predictor, max_voxels=1 << 20).measured
            assert measured is not None
            found.append(
                ReferenceStudy(group=SCANNER, score=measured.study_score, looks=dict(measured.looks))
            )
        return found

    def commission(self, noise: float) -> None:
        """Put a calibration of studies with so much noise in force."""
        document = CalibrationDocument(
            version=1,
            model_sha256=self.predictor.identity.sha256,
            made_on=date(2026, 3, 4),
            author="a physicist",
            reason=f"noise {noise:g}",
            least=5,
            strata=strata_of(self.reference(noise)),
        )
        with self.store.transaction() as session:
            kept = calibrations.propose(session, document, origin=Origin.COMMISSIONING, actor="admin")
            calibrations.accept(session, kept.id, actor="admin")

    @property
    def triage(self) -> Triage:
        return Triage(
            store=self.store,
            provision=Provision(spool_folder=self.folder / "spool"),
            objects=ResultFolder(self.folder / "results"),
            models=FixedModel(self.predictor),
            in_force=self.calibrations.in_force,
            destinations=lambda _: (),
            max_voxels=1 << 20,
            attempts=3,
            places=Shares(1),
            memory=Shares(1 << 30),
            scratch_folder=self.folder / "scratch",
            kinds=frozenset({ResultKind.REPORT}),
        )

    def receive(self, noise: float) -> str:
        """One study is received and scored; return its key."""
        self.made += 1
        spool = Spool(self.folder / "spool", SECRET, free_mark_bytes=0)
        datasets = images(f"s{self.made}", noise)
        for path, dataset in zip(
            write(self.folder / f"sent{self.made}", datasets),
            sorted(datasets, key=lambda one: one.SOPInstanceUID[-12:]),
            strict=True,
        ):
            kept = spool.store(dataset.StudyInstanceUID, dataset.SOPInstanceUID, [path.read_bytes()])
        with self.store.transaction() as session:
            arrivals = [arrival_of(file) for file in spool.instances(kept.study_key)]
            studies.register(session, kept.study_key, arrivals)
            revision = studies.complete(session, kept.study_key, completed_by="quiet_period", now=NOON)
            assert revision is not None
            self.admission.admit(session, kept.study_key, revision, completed_by="quiet_period", now=NOON)
        self.work()
        return kept.study_key

    def work(self) -> None:
        """Do what waits in the queue."""
        with self.store.transaction() as session:
            waiting = sorted(jobs.waiting_scores(session))
        for score_id in waiting:
            self.triage.run(score_id)

    @property
    def admission(self) -> Admission:
        return Admission(
            model_hash=lambda: self.predictor.identity.sha256,
            config_digest=self.calibrations.config_digest,
        )

    def judge_again(self, session: Session, key: str) -> None:
        """As the node wires it."""
        rescore(session, key, actor="node", admission=self.admission)

    def watch(self) -> None:
        """The loop looks."""
        Watching(store=self.store, judge_again=self.judge_again).step(datetime.now(UTC))

    def study(self, key: str) -> StudyRow:
        with self.store.transaction() as session:
            return session.scalars(select(StudyRow).where(StudyRow.key == key)).one()

    def watched(self) -> watch_lists.ListedWatch:
        """The watch of what is in force."""
        with self.store.transaction() as session:
            return max(watch_lists.listed(session), key=lambda one: one.id)


@pytest.fixture
def hospital(store: Store, tmp_path: Path, pictures: AnyPredictor) -> Hospital:
    return Hospital(store, tmp_path, pictures)


def test_an_upgraded_scanner_loses_its_percentile_until_it_is_commissioned_again(hospital: Hospital) -> None:
    hospital.commission(noise=20)
    before = [hospital.receive(20) for _ in range(6)]
    hospital.watch()
    assert hospital.watched().alarmed_at is None
    assert {hospital.study(key).band for key in before} == {Band.RANKED}

    changed = []
    while hospital.watched().alarmed_at is None:
        assert len(changed) < 15
        changed.append(hospital.receive(28))
        hospital.watch()

    found = hospital.watched()
    assert "noise" in found.alarms
    assert found.seen == len(before) + len(changed)
    # Those of before the change keep their percentile; those since lose it, for nobody has seen them.
    assert abs(found.studies_since_change - len(changed)) <= 2
    hospital.work()
    late = changed[2:]
    assert {(hospital.study(key).state, hospital.study(key).reason) for key in late} == {
        (State.NOT_ASSESSABLE, "drifted")
    }
    assert {hospital.study(key).band for key in before[:4]} == {Band.RANKED}
    fresh = hospital.study(hospital.receive(28))
    assert (fresh.band, fresh.reason, fresh.p_value) == (Band.UNCALIBRATED, "drifted", None)
    assert fresh.study_score is not None
    with hospital.store.transaction() as session:
        waiting = rescore_calibrated(session, hospital.calibrations, hospital.admission, actor="ada")
    assert waiting.queued == 0
    assert waiting.left > 0

    hospital.commission(noise=28)
    again = hospital.study(hospital.receive(28))
    with hospital.store.transaction() as session:
        hospital.judge_again(session, fresh.key)
    hospital.work()
    hospital.watch()

    assert (again.band, again.state) == (Band.RANKED, State.SCORED)
    assert hospital.study(fresh.key).band == Band.RANKED
    assert (hospital.watched().seen, hospital.watched().alarmed_at) == (2, None)
    with hospital.store.transaction() as session:
        (event,) = session.scalars(select(AuditRow).where(AuditRow.action == "drift.alarmed")).all()
        assert event.detail["group"] == "MR, T1, PHANTOM, north"
        audit.verify(session)
