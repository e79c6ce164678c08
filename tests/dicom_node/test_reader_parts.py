"""Series that are several volumes or pictures."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from dicom_node.errors import NotAVolumeError
from dicom_node.reader import FEWEST_IN_STACK, list_series, read_headers, read_volume
from models.errors import Reason
from tests.dicom_node.results.scenes import two_stacks
from tests.phantoms import AXIAL, CORONAL, SAGITTAL, Phantom, write
from tests.projections import BRIGHT, SHAPE, projection_pixels, radiograph, ultrasound

MAX_VOXELS = 1 << 24


@pytest.mark.parametrize("modality", ["CR", "DX"])
def test_a_radiograph_is_a_volume_of_one_slice_in_its_own_grid(tmp_path: Path, modality: str) -> None:
    (series,) = list_series(write(tmp_path, [radiograph(modality=modality)]))
    assert series.reason is None
    volume = read_volume(series, max_voxels=MAX_VOXELS)
    np.testing.assert_array_equal(volume.voxels[0], projection_pixels())
    assert volume.spacing_mm == (1.0, 0.2, 0.2)


def test_every_radiograph_of_a_series_stands_alone_in_its_order(tmp_path: Path) -> None:
    images = [radiograph(number) for number in (2, 0, 1)]
    series = list_series(write(tmp_path, images))
    assert [one.paths[0].name for one in series] == [
        f"{image.SOPInstanceUID[-12:]}.dcm" for image in sorted(images, key=lambda one: one.InstanceNumber)
    ]
    assert len({one.key for one in series}) == 3


def test_an_inverted_radiograph_has_the_values_of_its_twin(tmp_path: Path) -> None:
    twin = radiograph()
    twin.PhotometricInterpretation = "MONOCHROME1"
    twin.PixelData = (4095 - projection_pixels()).tobytes()
    (series,) = list_series(write(tmp_path, [twin]))
    volume = read_volume(series, max_voxels=MAX_VOXELS)
    np.testing.assert_array_equal(volume.voxels[0], projection_pixels())


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"PixelSpacing": [0.3, 0.4]}, (1.0, 0.3, 0.4)),
        ({"ImagerPixelSpacing": None}, (1.0, 1.0, 1.0)),
        ({"ImagerPixelSpacing": [0, 0]}, (1.0, 1.0, 1.0)),
    ],
)
def test_the_calibrated_spacing_of_a_radiograph_counts_first(
    tmp_path: Path, stated: dict[str, object], expected: tuple[float, float, float]
) -> None:
    image = radiograph()
    for keyword, value in stated.items():
        setattr(image, keyword, value)
    (series,) = list_series(write(tmp_path, [image]))
    assert read_volume(series, max_voxels=MAX_VOXELS).spacing_mm == expected


def test_a_grey_ultrasound_picture_is_read_and_a_clip_or_a_coloured_one_is_not(tmp_path: Path) -> None:
    (single,) = list_series(write(tmp_path / "single", [ultrasound()]))
    volume = read_volume(single, max_voxels=MAX_VOXELS)
    assert volume.voxels.shape == (1, *SHAPE)
    assert volume.voxels[0][BRIGHT] == 255 // 4
    (clip,) = list_series(write(tmp_path / "clip", [ultrasound(frames=5)]))
    assert clip.reason is Reason.MULTIFRAME
    coloured = ultrasound()
    coloured.PhotometricInterpretation = "PALETTE COLOR"
    (refused,) = list_series(write(tmp_path / "coloured", [coloured]))
    assert refused.reason is Reason.COLOUR


def planes(*directions: tuple[tuple[float, ...], ...], slices: int) -> list[FileDataset]:
    """One series with a stack in each direction."""
    made = []
    for number, direction in enumerate(directions):
        phantom = Phantom(shape=(slices, 12, 10), bright=(1, 7, 4), directions=direction)
        for index, dataset in enumerate(phantom.datasets()):
            uid = f"1.2.3.{number + 1}.{index + 1}.123456"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            made.append(dataset)
    return made


def test_several_regular_stacks_of_one_series_are_several_volumes(tmp_path: Path) -> None:
    datasets = planes(AXIAL, CORONAL, slices=FEWEST_IN_STACK)
    first, second = list_series(write(tmp_path, datasets))
    assert first.reason is second.reason is None
    assert first.key != second.key
    assert sorted((*first.paths, *second.paths)) == sorted(path for path in tmp_path.iterdir())
    for series in (first, second):
        volume = read_volume(series, max_voxels=MAX_VOXELS)
        assert len(read_headers(series)) == len(volume.voxels) == FEWEST_IN_STACK


def test_three_planes_of_few_slices_are_a_scout_and_not_three_volumes(tmp_path: Path) -> None:
    (series,) = list_series(write(tmp_path, planes(AXIAL, CORONAL, SAGITTAL, slices=FEWEST_IN_STACK - 1)))
    assert series.reason is Reason.MIXED_GEOMETRY


def test_a_stack_beside_an_odd_image_is_refused_with_it(tmp_path: Path) -> None:
    (series,) = list_series(write(tmp_path, planes(AXIAL, CORONAL, slices=12)[:13]))
    assert series.reason is Reason.MIXED_GEOMETRY


def test_stacks_of_one_enhanced_object_are_several_volumes_of_their_frames(tmp_path: Path) -> None:
    series = list_series(write(tmp_path, [two_stacks()]))
    assert len(series) == 2
    for one in series:
        assert one.reason is None
        assert one.frames is not None
        volume = read_volume(one, max_voxels=MAX_VOXELS)
        assert volume.voxels.shape == (10, 12, 10)
        assert volume.voxels.max() == 1000
    assert sorted(frame for one in series for frame in one.frames or ()) == list(range(20))


def test_pixels_that_are_fewer_than_the_frames_are_refused(tmp_path: Path) -> None:
    source = two_stacks()
    source.PixelData = source.PixelData[: len(source.PixelData) // 2]
    for series in list_series(write(tmp_path, [source])):
        with pytest.raises(NotAVolumeError) as refused:
            read_volume(series, max_voxels=MAX_VOXELS)
        assert refused.value.reason is Reason.UNDECODABLE
