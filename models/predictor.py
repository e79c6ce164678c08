"""Volume → Scores: the one call other packages use."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.aggregation import Map, Normals, combine, core, find_regions, head_map, smooth, top_mean
from models.artefact import (
    CALIBRATION,
    NETWORK,
    NORMALS,
    Artefact,
    InputContract,
    Manifest,
    PictureArtefact,
)
from models.calibration import Calibration, identify, read_calibration
from models.errors import ArtefactError, NoNumberError
from models.images.predictor import PicturePredictor
from models.likeness import check_likeness
from models.preprocess import VERSION, Prepared, prepare, to_source
from models.providers import CPU, PREFERENCE
from models.references import Reference
from models.runner import Feeds, Runner, numbers_of
from models.runtime import open_session
from models.scores import ModelIdentity, Scores
from models.triton import TritonSession
from models.validity import check_volume
from models.volume import Volume

INPUT = "input"  # The source map that needs no network: the normalised volume itself.


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the members say about one volume, before calibration.

    Attributes
    ----------
    prepared : Prepared
    inside : bool, shape (slices, rows, columns)
        The brain without its rim, on the model grid.
    maps : dict of str to float32, shape (slices, rows, columns)
        Standardised map of each head.
    heads : dict of str to float
        Study score of each head, higher is more abnormal.
    """

    prepared: Prepared
    inside: NDArray[np.bool_]
    maps: dict[str, Map]
    heads: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A reading, combined and calibrated, still on the model grid.

    Attributes
    ----------
    reading : Reading
    combined : float32, shape (slices, rows, columns)
        Largest member at each voxel, in units of what normals reach.
    study_score : float
    p_value : float
    """

    reading: Reading
    combined: Map
    study_score: float
    p_value: float


class Predictor:
    """One loaded artefact.

    Parameters
    ----------
    artefact : Artefact
    session : Runner
    normals : Normals
    calibration : Calibration
    """

    def __init__(
        self, artefact: Artefact, session: Runner, normals: Normals, calibration: Calibration
    ) -> None:
        self._manifest = artefact.manifest
        self._session = session
        self._normals = normals
        self._calibration = calibration
        self._identity = identify(artefact, calibration)
        self._reference: Reference | None = None

    @classmethod
    def load(
        cls,
        artefact: Artefact,
        *,
        providers: Sequence[str] = (CPU,),
        threads: int = 1,
        engines: Path | None = None,
        server: str | None = None,
    ) -> "Predictor":
        """Load the network, check that it fits the manifest, and warm it up.

        Parameters
        ----------
        artefact : Artefact
            Already verified.
        providers : sequence of str
            Execution providers that may be used; those absent are left out.
        threads : int
            Threads of one run.
        engines : Path, optional
            Folder in which TensorRT's engines are kept between starts.
        server : str, optional
            URL of an inference server that runs the network instead of this process.

        Raises
        ------
        ServerAwayError, ServerRefusedError
            If the server does not run it.
        ArtefactError
            If a file of the artefact cannot be used.
        """
        manifest = artefact.manifest
        contract = manifest.input
        session: Runner
        if server is not None:
            session = TritonSession(server, artefact.sha256, batch=contract.batch)
        else:
            session = open_session(
                artefact.path / NETWORK,
                {
                    "slices": np.zeros((1, len(contract.context), *contract.shape[1:]), dtype=np.float32),
                    "position": np.zeros(1, dtype=np.float32),
                },
                providers=providers,
                threads=threads,
                batch=contract.batch,
                engines=engines,
            )
        missing = set(manifest.sources) - {INPUT} - set(session.outputs)
        if missing:
            raise ArtefactError(artefact.path / NETWORK, f"has no output {', '.join(sorted(missing))}")
        normals = Normals.load(artefact.path / NORMALS, manifest)
        calibration = read_calibration(artefact.path / CALIBRATION)
        unknown = set(calibration.levels) - set(manifest.heads)
        if unknown:
            raise ArtefactError(artefact.path / CALIBRATION, f"names no head {', '.join(sorted(unknown))}")
        return cls(artefact, session, normals, calibration)

    @property
    def identity(self) -> ModelIdentity:
        """Which model speaks, and against whom it was calibrated."""
        return self._identity

    @property
    def manifest(self) -> Manifest:
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

    def against(self, reference: Reference) -> "Predictor":
        """The same model, its scores compared with ``reference`` in place of the artefact's own."""
        other = copy.copy(self)
        other._calibration = reference.calibration(self._calibration)  # noqa: SLF001 - of our own class
        other._identity = reference.identify(self._identity)  # noqa: SLF001 - of our own class
        other._reference = reference  # noqa: SLF001 - of our own class
        return other

    def through(self, runner: Runner) -> "Predictor":
        """The same model, its network asked by way of ``runner``."""
        other = copy.copy(self)
        other._session = runner  # noqa: SLF001 - of our own class
        return other

    def examples(self) -> Feeds:
        """A largest batch of samples that differ."""
        contract = self._manifest.input
        shape = (contract.batch, len(contract.context), *contract.shape[1:])
        return {
            "slices": np.random.default_rng(0).random(shape, dtype=np.float32),
            "position": np.linspace(-1, 1, contract.batch, dtype=np.float32),
        }

    def predict(self, volume: Volume) -> Scores:
        """How unusual a volume is, and where. The same volume gives the same bytes.

        Raises
        ------
        NotAssessableError
            If the volume is outside what the model was made for.
        """
        outcome = self.score(volume)
        calibration = self._calibration
        shown = to_source(outcome.combined, outcome.reading.prepared, volume)
        peak = float(shown.max())
        shown /= np.float32(calibration.display_max)
        np.clip(shown, 0, 1, out=shown)
        return Scores(
            study_score=outcome.study_score,
            p_value=outcome.p_value,
            heads=outcome.reading.heads,
            map=shown,
            bands=calibration.bands,
            regions=find_regions(
                shown,
                calibration.bands[0],
                affine=volume.affine,
                voxel_mm3=volume.voxel_mm3,
                min_mm3=self._manifest.min_region_mm3,
                scratch=volume.scratch,
            ),
            model=self._identity,
            peak=peak,
            tail=self._reference.tail_of(outcome.study_score) if self._reference else None,
        )

    def score(self, volume: Volume) -> Outcome:
        """The study's score and its map on the model grid, before the way back to the source.

        Raises
        ------
        NotAssessableError
            If the volume is outside what the model was made for.
        NoNumberError
            If the network gives no number.
        """
        seen = check_volume(volume, self._manifest.applicability)
        prepared = prepare(volume, self._manifest.input, seen)
        if INPUT in self._normals.mean:
            check_likeness(prepared, self._normals.mean[INPUT])
        reading = read_members(prepared, self._session, self._normals, self._manifest)
        combined = combine(reading.maps, self._calibration.levels)
        if not np.isfinite(combined).all():
            raise NoNumberError(NoNumberError.__doc__)
        study_score = study_score_of(combined, reading, self._manifest)
        return Outcome(
            reading=reading,
            combined=combined,
            study_score=study_score,
            p_value=self._calibration.p_value(study_score),
        )


AnyPredictor = Predictor | PicturePredictor


def load_predictor(
    artefact: Artefact | PictureArtefact,
    *,
    providers: Sequence[str] = PREFERENCE,
    threads: int = 1,
    engines: Path | None = None,
    server: str | None = None,
) -> AnyPredictor:
    """The predictor of an artefact of either format, on the best provider of this machine.

    Parameters
    ----------
    artefact : Artefact or PictureArtefact
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
        If the artefact's parts do not fit together.
    """
    if isinstance(artefact, PictureArtefact):
        return PicturePredictor.load(
            artefact, providers=providers, threads=threads, engines=engines, server=server
        )
    return Predictor.load(artefact, providers=providers, threads=threads, engines=engines, server=server)


def read_members(prepared: Prepared, session: Runner, normals: Normals, manifest: Manifest) -> Reading:
    """Standardised map and study score of every head.

    Raises
    ------
    NoNumberError
        If the network gives no number, or one so large that nothing can be compared with it.
    """
    maps = source_maps(prepared, session, manifest)
    inside = core(prepared, manifest.erode_mm)
    standardised = {name: normals.standardise(name, values) for name, values in maps.items()}
    if not all(np.isfinite(values).all() for values in standardised.values()):
        # Before a head takes its side: of minus infinity it would keep 0, which is calm.
        raise NoNumberError(NoNumberError.__doc__)
    heads = {name: head_map(standardised[head.source], head, inside) for name, head in manifest.heads.items()}
    voxel_mm3 = float(np.prod(prepared.spacing_mm))
    return Reading(
        prepared=prepared,
        inside=inside,
        maps=heads,
        heads={name: top_mean(values, inside, manifest.top_mm3, voxel_mm3) for name, values in heads.items()},
    )


def study_score_of(combined: Map, reading: Reading, manifest: Manifest) -> float:
    """Study score of a combined map: the mean over its highest tissue."""
    voxel_mm3 = float(np.prod(reading.prepared.spacing_mm))
    return top_mean(combined, reading.inside, manifest.top_mm3, voxel_mm3)


def source_maps(prepared: Prepared, session: Runner, manifest: Manifest) -> dict[str, Map]:
    """Smoothed map of every source on the model grid."""
    index = np.flatnonzero(prepared.mask.any(axis=(1, 2)))
    found = run_slices(session, prepared.voxels, index, manifest.input)
    found[INPUT] = prepared.voxels
    return {name: smooth(found[name], prepared, source) for name, source in manifest.sources.items()}


def run_slices(
    session: Runner, voxels: Map, index: NDArray[np.intp], contract: InputContract
) -> dict[str, Map]:
    """Every map-like output of the network as a volume, a bounded batch at a time.

    Parameters
    ----------
    voxels : float32, shape (slices, rows, columns)
    index : int
        Slices to score; the others stay 0.

    Raises
    ------
    NoNumberError
        If the network gives no number.
    """
    maps: dict[str, Map] = {}
    parts = [index[start : start + contract.batch] for start in range(0, len(index), contract.batch)]
    found = session.run_each(
        {
            "slices": context_slices(voxels, part, contract.context),
            "position": slice_position(part, len(voxels)),
        }
        for part in parts
    )
    for part, outputs in zip(parts, found, strict=True):
        for name, values in numbers_of(outputs).items():
            if values.ndim == 4:  # noqa: PLR2004 - (batch, 1, rows, columns); others are one number a slice
                maps.setdefault(name, np.zeros_like(voxels))[part] = values[:, 0]
    return maps


def slice_position(index: NDArray[np.intp], slices: int) -> NDArray[np.float32]:
    """Slice index → -1 (lowest) to 1 (highest)."""
    return (2.0 * index / (slices - 1) - 1.0).astype(np.float32)


def context_slices(voxels: Map, index: NDArray[np.intp], context: tuple[int, ...]) -> Map:
    """Slices with their neighbours as channels, (batch, context, rows, columns); 0 beyond the volume."""
    wanted = index[:, None] + np.asarray(context)[None, :]
    inside = (wanted >= 0) & (wanted < len(voxels))
    taken = voxels[np.clip(wanted, 0, len(voxels) - 1)]
    return np.asarray(taken * inside[:, :, None, None], dtype=np.float32)
