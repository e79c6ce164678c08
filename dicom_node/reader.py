"""Spooled instances to series, and a series to a `Volume`, or a coded reason why not.

Nothing a file claims is believed before it is bounded (I13), and every file is accounted for: one that
cannot be read is a series of its own with the reason. A series that holds several stacks, each of them
regular, is several; so is one of radiographs, each of them a picture alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.bits import check_bits
from dicom_node.errors import NotAVolumeError, UnreadableInstanceError
from dicom_node.frames import Frame, frames_of, is_picture, picture_frame
from dicom_node.geometry import Stack, arrange, is_same_grid, lay_flat
from dicom_node.header import IMAGE_CLASSES, PARSE_ERRORS, InstanceHeader, read_dataset, read_instance
from dicom_node.identity import series_key
from dicom_node.pixels import DECODE_ERRORS, decode, padding_of, to_modality_values
from models.errors import Reason
from models.scratch import IN_MEMORY, Scratch, slabs
from models.volume import Acquisition, Volume

FEWEST_IN_STACK = 8  # three planes of a few slices are a scout, whatever their Image Type says
MOST_STACKS = 16  # more directions in one series are no stacks but turns
UNREADABLE_KEY = "unreadable"  # in place of the pseudonym where no Series Instance UID can be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Instances of one series or of one stack in it, and whether they make a volume by their headers.

    Attributes
    ----------
    series_uid : str
        Never logged.
    key : str
        Pseudonym of the series, with a number where it holds several stacks or pictures.
    paths : tuple of Path
        In geometric order where there is one.
    frames : tuple of int or None
        Frames, from 0, of an enhanced object that holds several stacks; None: all there are.
    acquisition : Acquisition
        Of the first instance; what is true of any instance (lossy, text, contrast) is true of the series.
    headers : tuple of InstanceHeader
        Of the paths that can be read, in their order.
    voxels : int
        As its headers say; 0 where it is no volume.
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
    frames: tuple[int, ...] | None = None
    acquisition: Acquisition
    headers: tuple[InstanceHeader, ...] = field(default=(), repr=False)
    voxels: int = 0
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
    series = [one for series_uid, instances in readable.items() for one in _gate(series_uid, instances)]
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
    return [header.dataset for header in series.headers]


def read_volume(series: Series, *, max_voxels: int, scratch: Scratch = IN_MEMORY) -> Volume:
    """Decode a series into one volume on the grid of its source.

    Parameters
    ----------
    series : Series
        One that `list_series` gave no reason.
    max_voxels : int
        Larger volumes are refused before anything is allocated.
    scratch : Scratch
        Where the voxels are kept.

    Raises
    ------
    NotAVolumeError
        With the coded reason.
    """
    frames = _frames(series.headers)
    if series.frames is not None:
        frames = [frames[index] for index in series.frames]
    stack = _arrange(frames)
    rows, columns = frames[0].plane.matrix
    if len(frames) * rows * columns > max_voxels:
        raise NotAVolumeError(
            Reason.TOO_LARGE, f"{len(frames)} slices of {rows} x {columns} exceed {max_voxels} voxels."
        )
    voxels = scratch.zeros((len(frames), rows, columns), np.float32)
    padding = scratch.zeros(voxels.shape, np.bool_)
    ordered = [frames[index] for index in stack.order]
    slice_of = {(frame.instance.path, frame.index): place for place, frame in enumerate(ordered)}
    frames_in: dict[Path, list[Frame]] = defaultdict(list)
    for frame in frames:
        frames_in[frame.instance.path].append(frame)
    for path, mine in frames_in.items():
        # One object at a time: the decoded frames of a study are never in memory beside its voxels.
        _read_instance_into(path, mine, slice_of, voxels, padding)
    if not all(np.isfinite(voxels[part]).all() for part in slabs(voxels.shape)):
        raise NotAVolumeError(Reason.UNDECODABLE, "Rescaling gives values that are no numbers.")
    return Volume(
        voxels=voxels,
        spacing_mm=stack.spacing_mm,
        affine=stack.affine,
        padding=padding if padding.any() else None,
        scratch=scratch,
    )


def _read_instance_into(
    path: Path,
    mine: Sequence[Frame],
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
    check_bits(dataset, stored)
    if stored.shape != (mine[0].instance.frames, *voxels.shape[1:]):
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


def _gate(series_uid: str, instances: list[InstanceHeader]) -> list[Series]:
    """Return the series, its stacks or its pictures, in order, or with the reason why there is no order."""
    whole = Series(
        series_uid=series_uid,
        key=series_key(series_uid),
        paths=tuple(instance.path for instance in instances),
        acquisition=_acquisition_of(instances),
        headers=tuple(instances),
        is_image=any(instance.sop_class_uid in IMAGE_CLASSES for instance in instances),
        reason=None,
        detail="",
    )
    try:
        parts = _parts(_frames(instances))
    except NotAVolumeError as error:
        return [replace(whole, reason=error.reason, detail=error.detail)]
    many = len(parts) > 1
    return [
        replace(
            whole,
            key=f"{whole.key}-{number}" if many else whole.key,
            paths=tuple(dict.fromkeys(frame.instance.path for frame in part)),
            headers=tuple({frame.instance.path: frame.instance for frame in part}.values()),
            frames=tuple(frame.index for frame in part) if many and part[0].instance.frames > 1 else None,
            acquisition=_acquisition_of([frame.instance for frame in part]),
            voxels=len(part) * part[0].plane.matrix[0] * part[0].plane.matrix[1],
        )
        for number, part in enumerate(parts, start=1)
    ]


def _parts(frames: list[Frame]) -> list[list[Frame]]:
    """Split frames into pictures or regular stacks, each in geometric order; the largest stack first.

    A series is split only where all of it is stacks: one with an odd image in it is refused as it stands.

    Raises
    ------
    NotAVolumeError
        With the coded reason.
    """
    if is_picture(frames[0].instance):
        return [[frame] for frame in sorted(frames, key=_number)]
    try:
        stack = arrange([frame.plane for frame in frames])
    except NotAVolumeError as error:
        groups = _groups(frames)
        if len(groups) == 1 or min(map(len, groups)) < FEWEST_IN_STACK:
            raise
        try:
            stacks = [arrange([frame.plane for frame in group]) for group in groups]
        except NotAVolumeError:
            raise error from None
        ordered = [[group[index] for index in one.order] for group, one in zip(groups, stacks, strict=True)]
        return sorted(ordered, key=len, reverse=True)
    return [[frames[index] for index in stack.order]]


def _groups(frames: list[Frame]) -> list[list[Frame]]:
    """Frames that share direction, spacing, matrix and Stack ID."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if frame.stack == group[0].stack and is_same_grid(frame.plane, group[0].plane):
                group.append(frame)
                break
        else:
            if len(groups) == MOST_STACKS:
                return [frames]
            groups.append([frame])
    return groups


def _number(frame: Frame) -> tuple[int, str]:
    """Order of pictures: as they were numbered, then by name."""
    try:
        number = int(frame.instance.dataset.get("InstanceNumber") or 0)
    except PARSE_ERRORS:
        number = 0
    return number, frame.instance.path.name


def _arrange(frames: Sequence[Frame]) -> Stack:
    if is_picture(frames[0].instance):
        return lay_flat(frames[0].plane)
    return arrange([frame.plane for frame in frames])


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


def _frames(instances: Sequence[InstanceHeader]) -> list[Frame]:
    """Return the frames of images that can make volumes or pictures.

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
    if all(is_picture(instance) for instance in instances):
        return [picture_frame(instance) for instance in instances]
    return [frame for instance in instances for frame in frames_of(instance)]
