"""Contexts made from phantoms through the real reader, and the results they give.

Run as a module it prints the SHA-256 of every result of a scored scene, for a comparison across processes.
"""

import hashlib
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ComputedRadiographyImageStorage

from dicom_node.reader import list_series, read_headers, read_volume
from dicom_node.results import BuiltResult, ResultContext, ResultKind, build_results, encode
from models.errors import Reason
from models.scores import ModelIdentity, Region, Scores
from models.volume import Volume
from tests.phantoms import AXIAL, CORONAL, Phantom, uid, write

BANDS = (0.3, 0.5, 0.8)
PHANTOM = Phantom()
MODEL = ModelIdentity(
    name="brain-t1",
    version="0.1.0",
    sha256="ab12" * 16,
    calibration_sha256="cd34" * 16,
    calibrated_on=date(2026, 10, 2),
    group="adults without known finding",
    n=6,
    disclaimer="Demonstration model, not for clinical use.",
)


def scores_for(volume: Volume, bright: tuple[int, int, int]) -> Scores:
    """Map with the bright voxel in all bands, one neighbour in two, one in the lowest alone."""
    values = np.full(volume.voxels.shape, 0.1, np.float32)
    slice_, row, column = bright
    values[slice_, row, column] = 0.9
    values[slice_, row + 1, column] = 0.6
    if slice_ + 1 < len(values):
        values[slice_ + 1, row, column] = 0.4
    region = Region(
        volume_mm3=3 * volume.voxel_mm3, peak=0.9, mean=1.9 / 3, centre_mm=(0.0, 0.0, 0.0), slice_index=slice_
    )
    return Scores(
        study_score=1.25,
        p_value=2 / 7,
        heads={"cevae": 1.25},
        map=values,
        bands=BANDS,
        regions=(region,),
        model=MODEL,
    )


def context_of(
    folder: Path, datasets: Sequence[FileDataset], bright: tuple[int, int, int] = PHANTOM.bright
) -> ResultContext:
    """Scored context of one series, read by the real reader."""
    (series,) = list_series(write(folder, datasets))
    assert series.reason is None, series.detail
    volume = read_volume(series, max_voxels=10_000_000)
    return ResultContext(
        sources=read_headers(series),
        volume=volume,
        scores=scores_for(volume, bright),
        reason=None,
        detail="",
        model=MODEL,
        config_digest="c0" * 32,
        content_hash="f1" * 32,
        run_at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        software_version="0.1.0",
        predecessor_sr=None,
    )


def refused(sources: Sequence[Dataset], reason: Reason = Reason.LOCALISER) -> ResultContext:
    """Not assessable context."""
    return ResultContext(
        sources=sources,
        volume=None,
        scores=None,
        reason=reason,
        detail="Scout images only.",
        model=MODEL,
        config_digest="c0" * 32,
        content_hash="f1" * 32,
        run_at=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        software_version="0.1.0",
        predecessor_sr=None,
    )


def enhanced(phantom: Phantom = PHANTOM) -> FileDataset:
    """The phantom as one legacy converted enhanced MR object, its frames against the geometric order."""
    converted = hd.legacy.LegacyConvertedEnhancedMRImage(
        phantom.datasets(),
        series_instance_uid=uid("enhanced", "series"),
        series_number=2,
        sop_instance_uid=uid("enhanced", "instance"),
        instance_number=1,
    )
    made = FileDataset("", Dataset(), file_meta=converted.file_meta, preamble=b"\0" * 128)
    made.update(converted)
    frames = list(made.PerFrameFunctionalGroupsSequence)
    first, last = (np.array(frames[end].PlanePositionSequence[0].ImagePositionPatient) for end in (0, -1))
    row, column = (np.array(direction) for direction in phantom.directions)
    if np.dot(last - first, np.cross(row, column)) > 0:
        made.PerFrameFunctionalGroupsSequence = frames[::-1]
        made.PixelData = converted.pixel_array[::-1].tobytes()
    return made


def two_stacks() -> FileDataset:
    """An enhanced object with an axial and a coronal stack, each of ten slices."""
    first, second = (
        enhanced(Phantom(shape=(10, 12, 10), bright=bright, directions=directions))
        for bright, directions in (((2, 7, 4), AXIAL), ((6, 3, 5), CORONAL))
    )
    pixels, groups = [], []
    for source, name in ((first, "1"), (second, "2")):
        shared = source.SharedFunctionalGroupsSequence[0]
        for frame, plane in zip(source.PerFrameFunctionalGroupsSequence, source.pixel_array, strict=True):
            item = Dataset()
            item.update(frame)
            for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
                item[keyword] = (frame if keyword in frame else shared)[keyword]
            item.FrameContentSequence = [Dataset()]
            item.FrameContentSequence[0].StackID = name
            groups.append(item)
            pixels.append(plane)
    for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if keyword in first.SharedFunctionalGroupsSequence[0]:
            delattr(first.SharedFunctionalGroupsSequence[0], keyword)
    first.PerFrameFunctionalGroupsSequence = groups
    first.PixelData = np.stack(pixels).tobytes()
    first.NumberOfFrames = len(groups)
    return first


def without_region(context: ResultContext) -> ResultContext:
    """Scored, but no voxel reaches a band."""
    assert context.scores is not None
    flat = replace(context.scores, map=np.full_like(context.scores.map, 0.1), regions=())
    return replace(context, scores=flat)


def radiograph() -> ResultContext:
    """One projection without a place in space, scored all the same."""
    source = PHANTOM.datasets()[0]
    source.SOPClassUID = ComputedRadiographyImageStorage
    source.Modality = "CR"
    for keyword in ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(source, keyword)
    voxels = np.full((2, *PHANTOM.shape[1:]), 5, np.float32)
    volume = Volume(voxels=voxels, spacing_mm=(1.0, 0.2, 0.2), affine=np.eye(4))
    scores = scores_for(volume, (0, 3, 3))
    flat = replace(volume, voxels=voxels[:1])
    return replace(
        refused([source]), reason=None, volume=flat, scores=replace(scores, map=scores.map[:1], regions=())
    )


def every_kind(context: ResultContext) -> ResultContext:
    """The same, with every kind of result asked for."""
    return replace(context, kinds=frozenset(ResultKind))


def altered(context: ResultContext, change: Callable[[Dataset], None]) -> ResultContext:
    """Apply a change to every source header."""
    for source in context.sources:
        change(source)
    return context


def by_kind(context: ResultContext) -> dict[str, Dataset]:
    """Results as they come back from an archive: encoded and read again."""
    return {result.kind: dcmread(io.BytesIO(encode(result.dataset))) for result in build_results(context)}


def hashes(results: Sequence[BuiltResult]) -> dict[str, str]:
    return {result.kind: hashlib.sha256(encode(result.dataset)).hexdigest() for result in results}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for kind, sha256 in hashes(
            build_results(every_kind(context_of(Path(folder), PHANTOM.datasets())))
        ).items():
            print(kind, sha256)  # noqa: T201 - read by the process that compares
