"""A study that a worker scored: received files, results, map and rows as the service leaves them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.spool import Spool
from models.artefact import Artefact
from models.catalogue import active_artefact
from models.scores import ModelIdentity, Region, Scores
from models.volume import Volume
from service.active import ActiveModel
from service.provision import Provision
from service.settings import Settings
from service.shares import Shares
from service.store import Store, jobs, studies
from service.store.objects import ResultFolder
from service.store.studies import Arrival
from service.triage import Triage
from tests.fakes import FixedCalibration, FixedModel
from tests.phantoms import Phantom, write

SECRET = b"s" * 32
BANDS = (0.3, 0.5, 0.7)
REACH_MM = 12.0  # of the hot spot, to where it has fallen to 1/e


class Head(Phantom):
    """An ellipsoid of soft texture in exact darkness, as a skull-stripped brain is."""

    @property
    def stored(self) -> NDArray[np.uint16]:
        place = np.indices(self.shape).astype(np.float64)
        middle = (np.array(self.shape) - 1) / 2
        reach = ((place - middle[:, None, None, None]) / (0.9 * (middle[:, None, None, None] + 1))) ** 2
        texture = 600 + 120 * np.sin(place[1] / 3) * np.cos(place[2] / 4) + 40 * np.cos(place[0])
        return np.where(reach.sum(axis=0) < 1, texture, 0).round().astype(np.uint16)


HEAD = Head(
    shape=(24, 56, 48),
    spacing_mm=(6.0, 3.0, 3.0),
    bright=(15, 20, 30),
    name="viewed",
    origin_mm=(-70, -80, -60),
)


@dataclass
class Pointer:
    """A model that finds one hot spot, around the bright voxel of its phantom."""

    phantom: Phantom = HEAD
    modality: str = "MR"
    p_value: float = 1 / 7
    artefact: Artefact = field(default_factory=active_artefact)
    identity: ModelIdentity = field(default_factory=lambda: ActiveModel(data=Path("nowhere")).identity())
    provider: str = "none"
    preprocessing: str = "none"

    @property
    def runner(self) -> object:
        return self  # as far as anybody asks what ran

    @property
    def manifest(self) -> object:
        manifest = self.artefact.manifest
        rules = manifest.applicability.model_copy(update={"modality": self.modality})
        return manifest.model_copy(update={"applicability": rules})

    def map_of(self, volume: Volume) -> NDArray[np.float32]:
        place = np.indices(volume.voxels.shape).astype(np.float64)
        bright = np.array(self.phantom.bright)[:, None, None, None]
        spacing = np.array(volume.spacing_mm)[:, None, None, None]
        distance = (((place - bright) * spacing) ** 2).sum(axis=0)
        return (0.9 * np.exp(-distance / REACH_MM**2)).astype(np.float32)

    def predict(self, volume: Volume) -> Scores:
        hot = self.map_of(volume)
        above = hot > BANDS[0]
        return Scores(
            study_score=3.2,
            p_value=self.p_value,
            heads={"combi": 0.71, "residual": 0.0412},
            map=hot,
            bands=BANDS,
            regions=(
                Region(
                    volume_mm3=float(above.sum() * volume.voxel_mm3),
                    peak=float(hot.max()),
                    mean=float(hot[above].mean()),
                    centre_mm=tuple(float(value) for value in self.phantom.bright_mm),
                    slice_index=self.phantom.bright[0],
                ),
            ),
            model=self.identity,
        )


def score(
    store: Store,
    settings: Settings,
    phantom: Phantom = HEAD,
    **changes: str,
) -> str:
    """Receive a phantom, have a worker score it, and return its key.

    Parameters
    ----------
    **changes
        Elements of every file by keyword.
    """
    spool = Spool(settings.spool_folder, SECRET, free_mark_bytes=0)
    for dataset in phantom.datasets():
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        (path,) = write(settings.data / "sent", [dataset])
        key = spool.store(dataset.StudyInstanceUID, dataset.SOPInstanceUID, [path.read_bytes()]).study_key
    now = datetime.now(UTC)
    arrivals = [
        Arrival(
            file_name=file.file_name,
            sha256=file.sha256(),
            bytes=file.size_bytes,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
            is_own=False,
            sender="SCANNER",
            received_at=now,
            modality="MR",
            description=changes.get("StudyDescription", "MR brain"),
        )
        for file in spool.instances(key)
    ]
    model = Pointer(phantom=phantom, modality=changes.get("Modality", "MR"))
    with store.transaction() as session:
        studies.register(session, key, arrivals)
        revision = studies.complete(session, key, completed_by="quiet_period", now=now)
        score_id = jobs.queue(
            session, revision.id, model_hash=model.identity.sha256, config_digest="c" * 64, run_at=now
        )
    Triage(
        store=store,
        provision=Provision(spool_folder=settings.spool_folder),
        objects=ResultFolder(settings.results_folder),
        models=FixedModel(model),
        in_force=FixedCalibration().in_force,
        destinations=lambda _: ("archive",),
        max_voxels=1 << 24,
        attempts=1,
        places=Shares(1),
        memory=Shares(1 << 30),
        scratch_folder=settings.scratch_folder,
    ).run(score_id)
    return key
