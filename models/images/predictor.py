"""Pictures or a volume → scores, by an artefact of format 2."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.aggregation import find_regions
from models.artefact import CALIBRATION, NETWORK, PictureArtefact, PictureManifest
from models.calibration import Calibration, identify, read_calibration
from models.errors import ArtefactError, NotAssessableError, Reason
from models.images.picture import Picture, map_to_native, stack_context, with_context
from models.images.preparation import slice_positions
from models.images.steps import prepare
from models.images.volumes import axial_slices, from_axial
from models.runtime import Session
from models.scores import ModelIdentity, Scores
from models.volume import Volume

INPUTS = ("x", "mask", "position")
MIN_REGION_MM3 = 30.0
PICTURE = "picture"  # Name of the only head of a picture model.


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureScores:
    """What a model says about the pictures of one study.

    Attributes
    ----------
    study : float
        Higher is more abnormal.
    images : float64, shape (pictures,)
    maps : float32, shape (pictures, rows, columns), or None
        On the prepared grid; None where the method has no map.
    """

    study: float
    images: NDArray[np.float64]
    maps: NDArray[np.float32] | None


def join_slices(scores: NDArray[np.float64], how: str) -> float:
    """Scores of slices → score of the study.

    Parameters
    ----------
    scores : float64, shape (slices,)
    how : str
        ``max``, ``mean``, or ``top_quartile``: mean of the highest quarter.
    """
    if how == "mean":
        return float(scores.mean())
    count = 1 if how == "max" else max(1, len(scores) // 4)
    return float(np.sort(scores)[-count:].mean())


class PicturePredictor:
    """A loaded model of pictures.

    Parameters
    ----------
    artefact : PictureArtefact
    session : Session
    calibration : Calibration
    """

    def __init__(self, artefact: PictureArtefact, session: Session, calibration: Calibration) -> None:
        self._manifest = artefact.manifest
        self._session = session
        self._calibration = calibration
        self._identity = identify(artefact, calibration)

    @classmethod
    def load(
        cls,
        artefact: PictureArtefact,
        *,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int = 1,
    ) -> "PicturePredictor":
        """Load the network, check that it fits the manifest, and run it once.

        Raises
        ------
        ArtefactError
            If the network is not the one the manifest describes.
        """
        session = Session(artefact.path / NETWORK, providers=providers, threads=threads)
        if session.inputs != INPUTS or session.outputs != artefact.manifest.outputs:
            raise ArtefactError(
                artefact.path / NETWORK, "does not have the inputs and outputs of the manifest"
            )
        calibration = read_calibration(artefact.path / CALIBRATION)
        found = cls(artefact, session, calibration)
        contract = artefact.manifest.input
        empty = np.zeros((1, contract.network_channels, *contract.size), dtype=np.float32)
        found.run(empty, np.ones((1, 1, *contract.size), dtype=np.float32), np.zeros(1, dtype=np.float32))
        return found

    @property
    def identity(self) -> ModelIdentity:
        """Which model speaks, and against whom it was calibrated."""
        return self._identity

    @property
    def manifest(self) -> PictureManifest:
        """The artefact's manifest; its applicability says what may be scored."""
        return self._manifest

    def run(
        self, x: NDArray[np.float32], mask: NDArray[np.float32], position: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Every output of any number of prepared pictures, a bounded batch at a time."""
        return self._session.run_batched({"x": x, "mask": mask, "position": position})

    def score_pictures(self, pictures: Sequence[Picture]) -> PictureScores:
        """Scores of the pictures of one study, in slice order."""
        contract = self._manifest.input
        return self._score(
            stack_context(pictures, contract.context),
            np.stack([picture.mask for picture in pictures]),
            np.array([picture.position for picture in pictures], dtype=np.float32),
        )

    def predict(self, volume: Volume) -> Scores:
        """How unusual a series is, and where, slice by slice. The same volume gives the same bytes.

        Raises
        ------
        NotAssessableError
            CONSTANT_PIXELS if there is nothing to see.
        """
        planes = axial_slices(volume)
        if float(planes.max()) <= float(planes.min()):
            raise NotAssessableError(Reason.CONSTANT_PIXELS, "All pixels have the same value.")
        draft = prepare(planes, self._manifest.input)
        if not draft.mask.any():
            raise NotAssessableError(Reason.CONSTANT_PIXELS, "No tissue stands above the background.")
        found = self._score(
            with_context(draft.pixels, self._manifest.input.context),
            draft.mask,
            slice_positions(draft.mask).astype(np.float32),
        )
        shown = np.zeros(volume.voxels.shape, dtype=np.float32)
        calibration = self._calibration
        if found.maps is not None:
            native = [map_to_native(plane, draft.grid, planes.shape[2:]) for plane in found.maps]
            on_source = from_axial(np.stack(native), volume)
            shown = np.clip(on_source / np.float32(calibration.display_max), 0, 1).astype(np.float32)
        return Scores(
            study_score=found.study,
            p_value=calibration.p_value(found.study),
            heads={PICTURE: found.study},
            map=shown,
            bands=calibration.bands,
            regions=find_regions(
                shown,
                calibration.bands[0],
                affine=volume.affine,
                voxel_mm3=volume.voxel_mm3,
                min_mm3=MIN_REGION_MM3,
            ),
            model=self._identity,
        )

    def _score(
        self, x: NDArray[np.float32], mask: NDArray[np.bool_], position: NDArray[np.float32]
    ) -> PictureScores:
        found = self.run(x, mask[:, None].astype(np.float32), position)
        images = found["image_score"].astype(np.float64)
        seen = mask.any(axis=(1, 2))
        maps = found["pixel_score"][:, 0] if "pixel_score" in found else None
        study = join_slices(images[seen] if seen.any() else images, self._manifest.study)
        return PictureScores(study=study, images=images, maps=maps)
