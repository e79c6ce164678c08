"""One exported model on disk, verified byte for byte before it may speak.

A folder holds ``manifest.json``, which names every other file with its SHA-256, the network
``model.onnx``, ``calibration.json`` and ``MODEL_CARD.md``. Format 1 is a model of whole brain volumes and
has the statistics of normals beside it, ``normals.npz``; format 2 is a model of pictures or slices, whose
constants are all inside its graph.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from models.errors import ArtefactError
from models.images.contract import ImageContract

MANIFEST = "manifest.json"
NETWORK = "model.onnx"
NORMALS = "normals.npz"
CALIBRATION = "calibration.json"
CARD = "MODEL_CARD.md"
REQUIRED = {1: (NETWORK, NORMALS, CALIBRATION, CARD), 2: (NETWORK, CALIBRATION, CARD)}

Positive = Annotated[float, Field(gt=0)]
Range = tuple[float, float]


class _Section(BaseModel):
    """Part of a manifest: nothing unknown, nothing changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputContract(_Section):
    """What the network expects, and how a volume becomes it.

    Attributes
    ----------
    shape : tuple of int
        Model grid (slices, rows, columns); axes grow to superior, posterior, left.
    spacing_mm : float
        Of the model grid for a brain of the reference width and length.
    brain_width_mm, brain_length_mm : float
        Reference box to which brains are scaled.
    scale_range : tuple of float
        Limits of that scaling.
    top_slice : int
        Slice of the brain's highest point.
    landmark_percentiles, landmark_values : tuple of float
        Percentiles inside the brain and the normalised intensities they are mapped to.
    clip : tuple of float
        Limits of the normalised intensity.
    context : tuple of int
        Slice offsets fed as channels, the scored slice (0) among them.
    batch : int
        Most slices in one run of the network.
    """

    shape: tuple[int, int, int]
    spacing_mm: Positive
    brain_width_mm: Positive
    brain_length_mm: Positive
    scale_range: Range
    top_slice: int
    landmark_percentiles: tuple[float, ...]
    landmark_values: tuple[float, ...]
    clip: Range
    context: tuple[int, ...]
    batch: Annotated[int, Field(ge=1, le=128)]


class SeriesRules(_Section):
    """Which series the model was made for, by what their headers say. Everything else is *not assessable*.

    Attributes
    ----------
    modality : str
        DICOM Modality (0008,0060).
    body_parts : tuple of str
        Accepted values of Body Part Examined; an empty value is always accepted. None: any.
    refused_words : tuple of str
        Beginnings of words of a Series Description that name another sequence (T2 meets T2W), upper
        case; ``_`` stands for whatever is between words, so that a last ``_`` asks for the whole word.
    refused_image_types : tuple of str
        Values of Image Type that name a reformat, projection or computed map.
    age_years : tuple of float
        Accepted age where it is stated.
    accepts_contrast, accepts_lossy : bool
    """

    modality: str
    body_parts: tuple[str, ...]
    refused_words: tuple[str, ...] = ()
    refused_image_types: tuple[str, ...] = ()
    age_years: Range
    accepts_contrast: bool
    accepts_lossy: bool


class Applicability(SeriesRules):
    """Which volumes the model was made for.

    Attributes
    ----------
    min_slices : int
        Along the storage axis.
    max_spacing_mm : float
        Of any axis.
    width_mm, length_mm, height_mm : tuple of float
        Accepted size of the brain along left-right, anterior-posterior, inferior-superior.
    tissue_ml : tuple of float
        Accepted volume of everything brighter than background. More than the upper end is a head.
    max_foreground_share : float
        Of the tissue's bounding box that may differ from exact background. Air carries noise.
    """

    min_slices: int
    max_spacing_mm: Positive
    width_mm: Range
    length_mm: Range
    height_mm: Range
    tissue_ml: Range
    max_foreground_share: Positive


class Source(_Section):
    """One map of the network (or the input itself) before it is compared with normals.

    Attributes
    ----------
    median : int
        Edge of the cubic median filter over the volume, in voxels; 1 is none.
    smooth_mm : float
        Standard deviation of the Gaussian after it.
    """

    median: Annotated[int, Field(ge=1, le=9)]
    smooth_mm: Positive


class Head(_Section):
    """One member of the model: the bright or dark part of a standardised map, and its study score.

    Attributes
    ----------
    source : str
        Name of the map.
    sign : int
        -1 for less than expected, +1 for more.
    is_member : bool
        Whether it takes part in the combined score; others are reported beside it.
    """

    source: str
    sign: Literal[-1, 1]
    is_member: bool


class Training(_Section):
    """Where the model comes from.

    Attributes
    ----------
    record, record_sha256 : str
        The method record it was made from.
    seed : int
    data : str
        Name of the data folder's description.
    data_licence : str
    subjects : dict of str to int
        Number of people in each part of the split.
    software : dict of str to str
        Versions of the libraries that made it.
    """

    record: str
    record_sha256: str
    seed: int
    data: str
    data_licence: str
    subjects: dict[str, int]
    software: dict[str, str]


class Manifest(_Section):
    """Everything the running side must know about a model.

    Attributes
    ----------
    sources : dict of str to Source
        Maps by the name of the network's output; ``input`` is the normalised volume.
    heads : dict of str to Head
    erode_mm : float
        Rim of the brain left out, where strippers and partial volume differ between people.
    top_mm3 : float
        A study score is the mean over this much of the highest tissue.
    min_region_mm3 : float
        Smaller regions are not reported.
    files : dict of str to str
        SHA-256 of every other file of the folder.
    """

    format: Literal[1]
    name: str
    version: str
    title: str
    licence: str
    disclaimer: str
    applicability: Applicability
    input: InputContract
    sources: dict[str, Source]
    heads: dict[str, Head]
    erode_mm: Annotated[float, Field(ge=0)]
    top_mm3: Positive
    min_region_mm3: Positive
    training: Training
    files: dict[str, str]


class PictureManifest(_Section):
    """Everything the running side must know about a model of pictures or slices.

    Attributes
    ----------
    method : str
        Id of the method record.
    input : ImageContract
        How a picture is prepared.
    outputs : tuple of str
        Of the graph: ``image_score``, and ``pixel_score`` and ``reconstruction`` where the method has them.
    study : str
        How the scores of slices become that of a study.
    half_precision : bool
        Whether parity was shown in half precision, so that a GPU may use it.
    files : dict of str to str
        SHA-256 of every other file of the folder.
    """

    format: Literal[2]
    kind: Literal["image"]
    name: str
    version: str
    title: str
    method: str
    licence: str
    disclaimer: str
    applicability: SeriesRules
    input: ImageContract
    outputs: tuple[str, ...]
    study: Literal["max", "mean", "top_quartile"]
    half_precision: bool = False
    training: Training
    files: dict[str, str]


AnyManifest = Manifest | PictureManifest
_MANIFEST: TypeAdapter[AnyManifest] = TypeAdapter(Annotated[AnyManifest, Field(discriminator="format")])


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureArtefact:
    """A verified folder of a model of pictures or slices.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : PictureManifest
    sha256 : str
        As of ``Artefact``.
    """

    path: Path
    manifest: PictureManifest
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A verified model folder.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : Manifest
    sha256 : str
        Hash over the manifest, network, statistics and calibration. The card is left out, so that it can
        state results of the model it describes.
    """

    path: Path
    manifest: Manifest
    sha256: str

    @classmethod
    def load(cls, path: Path) -> "Artefact":
        """Read the folder of a volume model and verify every byte of it.

        Raises
        ------
        ArtefactError
            Names the file that is missing, not valid or changed, or if it is a model of pictures.
        """
        found = load_artefact(path)
        if isinstance(found, PictureArtefact):
            raise ArtefactError(path / MANIFEST, "is of a model of pictures; a model of volumes is needed")
        return found


def load_artefact(path: Path) -> Artefact | PictureArtefact:
    """Read a folder of either format and verify every byte of it.

    Raises
    ------
    ArtefactError
        Names the file that is missing, not valid or changed.
    """
    manifest = read_manifest(path / MANIFEST)
    for name in REQUIRED[manifest.format]:
        if name not in manifest.files:
            raise ArtefactError(path / MANIFEST, f"does not list {name}")
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise ArtefactError(path / MANIFEST, f"lists {name!r}, which is not a plain file name")
        if file_sha256(path / name) != expected:
            raise ArtefactError(path / name, "is not the file that was released; restore it")
    sha256 = identity_sha256(manifest)
    if isinstance(manifest, PictureManifest):
        return PictureArtefact(path=path, manifest=manifest, sha256=sha256)
    return Artefact(path=path, manifest=manifest, sha256=sha256)


def file_sha256(path: Path) -> str:
    """SHA-256 of one file of an artefact, hexadecimal.

    Raises
    ------
    ArtefactError
        If it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ArtefactError(path, f"cannot be read ({error.strerror}); restore it") from error


def identity_sha256(manifest: AnyManifest) -> str:
    """The hash results are signed with: all of the manifest but the card's own hash."""
    content = manifest.model_dump(mode="json")
    content["files"].pop(CARD, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path, manifest: AnyManifest) -> None:
    """Write ``manifest.json`` with the hashes of the files that are there now.

    Raises
    ------
    ArtefactError
        If one of them is missing.
    """
    files = {name: file_sha256(folder / name) for name in REQUIRED[manifest.format]}
    content = manifest.model_copy(update={"files": files}).model_dump(mode="json")
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> AnyManifest:
    """Read a manifest alone; no other file is looked at.

    Raises
    ------
    ArtefactError
        If it cannot be read, is not valid, or another release made it.
    """
    try:
        return _MANIFEST.validate_json(path.read_bytes())
    except OSError as error:
        raise ArtefactError(path, f"cannot be read ({error.strerror}); restore it") from error
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "union_tag_invalid":  # more than a wrong value: another release made it
            raise ArtefactError(
                path,
                f"is of format {first['ctx']['tag']}, this release reads 1 and 2; update Vigil on this "
                "machine, or serve a model of an older release",
            ) from error
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArtefactError(path, f"is not a valid manifest: {field}: {first['msg']}") from error
