"""Spooled instances to series, and a series to a `Volume`, or a coded reason why not.

Nothing a file claims is believed before it is bounded (I13), and every file is accounted for: one that
cannot be read is a series of its own with the reason.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.errors import NotAVolumeError, UnreadableInstanceError
from dicom_node.frames import Frame, frames_of
from dicom_node.geometry import Stack, arrange
from dicom_node.header import IMAGE_CLASSES, InstanceHeader, read_dataset, read_instance
from dicom_node.identity import series_key
from dicom_node.pixels import DECODE_ERRORS, decode, padding_of, to_modality_values
from models.errors import Reason
from models.volume import Acquisition, Volume

UNREADABLE_KEY = "unreadable"  # in place of the pseudonym where no Series Instance UID can be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Instances of one series, and whether they make a volume as far as their headers say.

    Attributes
    ----------
    series_uid : str
        Never logged.
    key : str
        Pseudonym of the series.
    paths : tuple of Path
        In geometric order where there is one.
    acquisition : Acquisition
        Of the first instance; what is true of any instance (lossy, text, contrast) is true of the series.
    is_image : bool
        Its class holds images a model may be asked about.
    reason : Reason or None
        Why it is no volume.
    detail : str
        The same for people, free of identity.
    """

    series_uid: str
    key: str
    paths: tuple[Path, ...]
    acquisition: Acquisition
    is_image: bool
    reason: Reason | None
    detail: str


def list_series(paths: Sequence[Path]) -> tuple[Series, ...]:
    """Group instances into series and gate each by its headers; no pixel is decoded.

    Parameters
    ----------
    paths : sequence of Path
        Any order.

    Returns
    -------
    tuple of Series
        Ordered by key. Every path is in exactly one of them.
    """
    readable: dict[str, list[InstanceHeader]] = defaultdict(list)
    unreadable: list[Path] = []
    for path in sorted(paths):
        try:
            instance = read_instance(path)
        except UnreadableInstanceError:
            unreadable.append(path)
        else:
            readable[instance.series_uid].append(instance)
    series = [_gate(series_uid, instances) for series_uid, instances in readable.items()]
    if unreadable:
        series.append(
            Series(
                series_uid="",
                key=UNREADABLE_KEY,
                paths=tuple(unreadable),
                acquisition=Acquisition(modality=""),
                is_image=False,
                reason=Reason.UNREADABLE,
                detail=f"{len(unreadable)} instances cannot be parsed.",
            )
        )
    return tuple(sorted(series, key=lambda one: one.key))


def read_headers(series: Series) -> list[Dataset]:
    """Headers of a series in its order, without pixels; files that cannot be read are left out."""
    headers: list[Dataset] = []
    for path in series.paths:
        try:
            headers.append(read_instance(path).dataset)
        except UnreadableInstanceError:
            continue
    return headers


def read_volume(series: Series, *, max_voxels: int) -> Volume:
    """Decode a series into one volume on the grid of its source.

    Parameters
    ----------
    series : Series
        One that `list_series` gave no reason.
    max_voxels : int
        Larger volumes are refused before anything is allocated.

    Raises
    ------
    NotAVolumeError
        With the coded reason.
    """
    try:
        instances = [read_instance(path) for path in series.paths]
    except UnreadableInstanceError as error:
        raise NotAVolumeError(Reason.UNREADABLE, str(error)) from error
    frames, stack = _stack(instances)
    rows, columns = frames[0].plane.matrix
    if len(frames) * rows * columns > max_voxels:
        raise NotAVolumeError(
            Reason.TOO_LARGE, f"{len(frames)} slices of {rows} x {columns} exceed {max_voxels} voxels."
        )
    voxels = np.zeros((len(frames), rows, columns), dtype=np.float32)
    padding = np.zeros(voxels.shape, dtype=np.bool_)
    ordered = [frames[index] for index in stack.order]
    slice_of = {(frame.instance.path, frame.index): place for place, frame in enumerate(ordered)}
    for path in dict.fromkeys(frame.instance.path for frame in frames):
        # One object at a time: the decoded frames of a study are never in memory beside its voxels.
        _read_instance_into(path, frames, slice_of, voxels, padding)
    if not np.isfinite(voxels).all():
        raise NotAVolumeError(Reason.UNDECODABLE, "Rescaling gives values that are no numbers.")
    return Volume(
        voxels=voxels,
        spacing_mm=stack.spacing_mm,
        affine=stack.affine,
        padding=padding if padding.any() else None,
    )


def _read_instance_into(
    path: Path,
    frames: Sequence[Frame],
    slice_of: dict[tuple[Path, int], int],
    voxels: np.ndarray[tuple[int, int, int], np.dtype[np.float32]],
    padding: np.ndarray[tuple[int, int, int], np.dtype[np.bool_]],
) -> None:
    """Decode one object and put its frames where they belong."""
    try:
        dataset = read_dataset(path, with_pixels=True)
    except UnreadableInstanceError as error:
        raise NotAVolumeError(Reason.UNREADABLE, str(error)) from error
    stored = decode(dataset)
    mine = [frame for frame in frames if frame.instance.path == path]
    if stored.shape != (len(mine), *voxels.shape[1:]):
        raise NotAVolumeError(Reason.UNDECODABLE, "The pixels are not of the size the header states.")
    try:
        for frame in mine:
            place = slice_of[path, frame.index]
            voxels[place] = to_modality_values(dataset, stored[frame.index], frame.rescale)
            mask = padding_of(dataset, stored[frame.index])
            if mask is not None:
                padding[place] = mask
    except DECODE_ERRORS as error:
        raise NotAVolumeError(
            Reason.UNDECODABLE, f"Rescale or padding values are not usable ({type(error).__name__})."
        ) from None


def _gate(series_uid: str, instances: list[InstanceHeader]) -> Series:
    """Return the series with its slices in order, or with the reason why they have none."""
    paths = tuple(instance.path for instance in instances)
    reason: Reason | None = None
    detail = ""
    try:
        frames, stack = _stack(instances)
        # An enhanced object holds all its frames: its path stands once.
        paths = tuple(dict.fromkeys(frames[index].instance.path for index in stack.order))
    except NotAVolumeError as error:
        reason, detail = error.reason, error.detail
    return Series(
        series_uid=series_uid,
        key=series_key(series_uid),
        paths=paths,
        acquisition=_acquisition_of(instances),
        is_image=any(instance.sop_class_uid in IMAGE_CLASSES for instance in instances),
        reason=reason,
        detail=detail,
    )


def _acquisition_of(instances: Sequence[InstanceHeader]) -> Acquisition:
    """Return one acquisition for a series: a flag of any of its instances counts."""
    every = [instance.acquisition for instance in instances]
    return replace(
        every[0],
        contrast_agent=any(one.contrast_agent for one in every),
        is_lossy=any(one.is_lossy for one in every),
        is_burned_in=any(one.is_burned_in for one in every),
        image_type=tuple(dict.fromkeys(value for one in every for value in one.image_type)),
    )


def _stack(instances: Sequence[InstanceHeader]) -> tuple[list[Frame], Stack]:
    """Return frames and their order in space.

    Raises
    ------
    NotAVolumeError
        With the coded reason.
    """
    if not all(instance.sop_class_uid in IMAGE_CLASSES for instance in instances):
        raise NotAVolumeError(Reason.NO_IMAGES, "The series holds no images of a class that is triaged.")
    if len({str(instance.dataset.get("PatientID") or "").strip() for instance in instances} - {""}) > 1:
        raise NotAVolumeError(Reason.MIXED_PATIENTS, "The images of the series name different patients.")
    if any("LOCALIZER" in instance.acquisition.image_type for instance in instances):
        raise NotAVolumeError(Reason.LOCALISER, "The series is a localiser.")
    grey = {"MONOCHROME1", "MONOCHROME2"}
    if any(instance.samples > 1 or instance.photometric not in grey for instance in instances):
        raise NotAVolumeError(Reason.COLOUR, "The pixels are not grey intensities.")
    if any(min(instance.rows, instance.columns, instance.frames) < 1 for instance in instances):
        raise NotAVolumeError(Reason.UNDECODABLE, "The header states no matrix.")
    if len(instances) > 1 and any(instance.frames > 1 for instance in instances):
        raise NotAVolumeError(Reason.MULTIFRAME, "Several multi-frame objects in one series.")
    if len({str(instance.dataset.get("FrameOfReferenceUID") or "") for instance in instances}) > 1:
        raise NotAVolumeError(Reason.MIXED_GEOMETRY, "The series mixes frames of reference.")
    frames = [frame for instance in instances for frame in frames_of(instance)]
    return frames, arrange([frame.plane for frame in frames])
