"""Pictures or a volume → scores, by an artefact of format 2."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.aggregation import find_regions
from models.artefact import CALIBRATION, NETWORK, PictureArtefact, PictureManifest
from models.calibration import Calibration, identify, read_calibration
from models.errors import ArtefactError, NotAssessableError, Reason
from models.images.contract import ImageContract
from models.images.picture import Picture, map_to_native, stack_context, with_context
from models.images.preparation import LEAST_ASSESSED, slice_positions
from models.images.steps import VERSION, prepare
from models.images.volumes import axial_slices, from_axial
from models.preprocess import clean_voxels
from models.providers import CPU
from models.references import Reference
from models.runner import Feeds, Runner, numbers_of
from models.runtime import BATCH, open_session
from models.scores import ModelIdentity, Scores
from models.triton import TritonSession
from models.validity import check_pixels
from models.volume import Volume

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


def example_of(contract: ImageContract, *, count: int = 1, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Inputs of a network as a contract describes them: noise, all of it assessed.

    Parameters
    ----------
    contract : ImageContract
    count : int
        Pictures.
    seed : int

    Returns
    -------
    dict of str to float32
        ``x`` (count, channels, rows, columns), ``mask`` (count, 1, rows, columns), ``position`` (count,).
    """
    rng = np.random.default_rng(seed)
    return {
        "x": rng.random((count, contract.network_channels, *contract.size), dtype=np.float32),
        "mask": np.ones((count, 1, *contract.size), dtype=np.float32),
        "position": np.zeros(count, dtype=np.float32),
    }


class PicturePredictor:
    """A loaded model of pictures.

    Parameters
    ----------
    artefact : PictureArtefact
    session : Runner
    calibration : Calibration
    """

    def __init__(self, artefact: PictureArtefact, session: Runner, calibration: Calibration) -> None:
        self._manifest = artefact.manifest
        self._session = session
        self._calibration = calibration
        self._identity = identify(artefact, calibration)
        self._reference: Reference | None = None

    @classmethod
    def load(
        cls,
        artefact: PictureArtefact,
        *,
        providers: Sequence[str] = (CPU,),
        threads: int = 1,
        engines: Path | None = None,
        server: str | None = None,
    ) -> "PicturePredictor":
        """Load the network, check that it fits the manifest, and warm it up.

        Parameters
        ----------
        artefact : PictureArtefact
            Already verified.
        providers : sequence of str
            Execution providers that may be used; those absent are left out.
        threads : int
            Of one run on the CPU.
        engines : Path, optional
            Folder in which TensorRT's engines are kept between starts.
        server : str, optional
            URL of an inference server that runs the network instead of this process.

        Raises
        ------
        ServerAwayError, ServerRefusedError
            If the server does not run it.
        ArtefactError
            If the network is not the one the manifest describes.
        """
        network, manifest = artefact.path / NETWORK, artefact.manifest
        session: Runner
        if server is not None:
            session = TritonSession(server, artefact.sha256)
        else:
            session = open_session(
                network,
                example_of(manifest.input),
                providers=providers,
                threads=threads,
                half=manifest.half_precision,
                engines=engines,
            )
        if set(session.outputs) != set(manifest.outputs):
            raise ArtefactError(network, "does not have the outputs of the manifest")
        return cls(artefact, session, read_calibration(artefact.path / CALIBRATION))

    @property
    def identity(self) -> ModelIdentity:
        """Which model speaks, and against whom it was calibrated."""
        return self._identity

    @property
    def manifest(self) -> PictureManifest:
        """The artefact's manifest; its applicability says what may be scored."""
        return self._manifest

    @property
    def preprocessing(self) -> str:
        """Version of what is done to voxels before the network sees them."""
        return VERSION

    @property
    def runner(self) -> Runner:
        """What runs the network."""
        return self._session

    def against(self, reference: Reference) -> "PicturePredictor":
        """The same model, its scores compared with ``reference`` in place of the artefact's own."""
        other = copy.copy(self)
        other._calibration = reference.calibration(self._calibration)  # noqa: SLF001 - of our own class
        other._identity = reference.identify(self._identity)  # noqa: SLF001 - of our own class
        other._reference = reference  # noqa: SLF001 - of our own class
        return other

    def through(self, runner: Runner) -> "PicturePredictor":
        """The same model, its network asked by way of ``runner``."""
        other = copy.copy(self)
        other._session = runner  # noqa: SLF001 - of our own class
        return other

    def examples(self) -> Feeds:
        """A largest batch of samples that differ."""
        return example_of(self._manifest.input, count=BATCH)

    def run(
        self, x: NDArray[np.float32], mask: NDArray[np.float32], position: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        """Every output of any number of prepared pictures, a bounded batch at a time.

        Raises
        ------
        NoNumberError
            If the network gives no number.
        """
        return numbers_of(self._session.run_batched({"x": x, "mask": mask, "position": position}))

    def score_pictures(self, pictures: Sequence[Picture]) -> PictureScores:
        """Scores of the pictures of one study, in slice order."""
        return self.score_studies([pictures])[0]

    def score_studies(self, studies: Sequence[Sequence[Picture]]) -> list[PictureScores]:
        """Scores of many studies; batches are filled across them, so that single pictures do not run alone.

        Parameters
        ----------
        studies : sequence of sequences of Picture
            Each in slice order. All of them are in memory at once with what the network says of them.
        """
        context = self._manifest.input.context
        pictures = [picture for study in studies for picture in study]
        mask = np.stack([picture.mask for picture in pictures])
        found = self.run(
            np.concatenate([stack_context(study, context) for study in studies]),
            mask[:, None].astype(np.float32),
            np.array([picture.position for picture in pictures], dtype=np.float32),
        )
        ends = np.cumsum([len(study) for study in studies])
        cuts = [slice(end - len(study), end) for end, study in zip(ends, studies, strict=True)]
        return [
            self._joined({name: values[cut] for name, values in found.items()}, mask[cut]) for cut in cuts
        ]

    def predict(self, volume: Volume) -> Scores:
        """How unusual a series is, and where, slice by slice. The same volume gives the same bytes.

        Raises
        ------
        NotAssessableError
            CONSTANT_PIXELS, BLANK_SLICES or CLIPPED if there is not enough to see, WRONG_MODALITY if the
            model needs colour.
        NoNumberError
            If the network gives no number.
        """
        check_pixels(clean_voxels(volume))
        planes = axial_slices(volume)
        contract = self._manifest.input
        try:
            draft = prepare(planes, contract)
        except ValueError as error:
            raise NotAssessableError(
                Reason.WRONG_MODALITY, "The model needs pictures with more channels than the series has."
            ) from error
        if not draft.mask.any():
            raise NotAssessableError(Reason.CONSTANT_PIXELS, "No tissue stands above the background.")
        found = self._joined(
            self.run(
                with_context(draft.pixels, contract.context),
                draft.mask[:, None].astype(np.float32),
                slice_positions(draft.mask).astype(np.float32),
            ),
            draft.mask,
        )
        shown, peak = np.zeros(volume.voxels.shape, dtype=np.float32), None
        calibration = self._calibration
        if found.maps is not None:
            native = [map_to_native(plane, draft.grid, planes.shape[2:]) for plane in found.maps]
            on_source = from_axial(np.stack(native), volume)
            peak = float(on_source.max())
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
            peak=peak,
            tail=self._reference.tail_of(found.study) if self._reference else None,
        )

    def _joined(self, found: Mapping[str, NDArray[np.float32]], mask: NDArray[np.bool_]) -> PictureScores:
        """What the network says of the slices of one study; empty slices have no say in the study's score."""
        images = found["image_score"].astype(np.float64)
        # The slices the reference was made of: empty ends teach nothing and their mean is noise.
        seen = mask.mean(axis=(1, 2)) >= LEAST_ASSESSED
        study = join_slices(images[seen] if seen.any() else images, self._manifest.study)
        maps = found["pixel_score"][:, 0] if "pixel_score" in found else None
        return PictureScores(study=study, images=images, maps=maps)
