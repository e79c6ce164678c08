import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset

from dicom_node.errors import UnreadableInstanceError
from dicom_node.web.rendering import JPEG, PNG, Window, encode, render
from tests.phantoms import mr_image, write

VALUES = np.array([[0, 100], [200, 300]], np.uint16)


def shown(folder: Path, dataset: FileDataset, index: int = 0, window: Window | None = None) -> list[int]:
    (path,) = write(folder, [dataset])
    return [int(value) for value in np.asarray(render(path, index, window=window)).ravel()]


def test_without_a_window_all_values_are_shown(tmp_path: Path) -> None:
    assert shown(tmp_path, mr_image("r", 0, VALUES)) == [0, 85, 170, 255]


def test_the_objects_own_window_counts_after_its_rescale(tmp_path: Path) -> None:
    dataset = mr_image("r", 0, VALUES)
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -100, "HU"
    dataset.WindowCenter, dataset.WindowWidth = [50.5, 7], [101, 8]
    assert shown(tmp_path, dataset) == [0, 0, 255, 255]
    assert shown(tmp_path, dataset, window=Window(centre=150.5, width=101)) == [0, 0, 0, 255]


def test_the_least_value_is_white_where_the_object_says_so(tmp_path: Path) -> None:
    dataset = mr_image("r", 0, VALUES)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    assert shown(tmp_path, dataset) == [255, 170, 85, 0]


def test_a_frame_has_its_own_window(tmp_path: Path) -> None:
    dataset = mr_image("r", 0, np.stack([VALUES, VALUES]))
    dataset.NumberOfFrames = 2
    groups = []
    for centre in (50.5, 250.5):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, 2
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    assert shown(tmp_path, dataset, 0) == [0, 255, 255, 255]
    assert shown(tmp_path, dataset, 1) == [0, 0, 0, 255]
    with pytest.raises(IndexError):
        shown(tmp_path, dataset, 2)


def test_colours_stay_and_pictures_fit_their_box(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    dataset = mr_image("r", 0, colours[..., 0])
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.PixelData = colours.tobytes()
    (path,) = write(tmp_path, [dataset])
    picture = render(path, 0)
    np.testing.assert_array_equal(np.asarray(picture), colours)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode(picture, PNG)))), colours)
    assert Image.open(io.BytesIO(encode(picture, JPEG))).size == (16, 8)
    assert render(path, 0, box=(8, 8)).size == (8, 4)


def test_what_has_no_picture_is_refused(tmp_path: Path) -> None:
    dataset = mr_image("r", 0, VALUES)
    dataset.PixelData = b"\0\0"
    with pytest.raises(UnreadableInstanceError):
        shown(tmp_path, dataset)
    for keyword in ("PixelData", "Rows", "Columns"):
        del dataset[keyword]
    with pytest.raises(UnreadableInstanceError, match="no pixels"):
        shown(tmp_path, dataset)


@pytest.mark.parametrize(("name", "value"), [("Rows", [2, 2]), ("NumberOfFrames", [1, 2])])
def test_a_header_with_two_sizes_has_no_picture(tmp_path: Path, name: str, value: list[int]) -> None:
    dataset = mr_image("sizes", 0, VALUES)
    setattr(dataset, name, value)
    (path,) = write(tmp_path, [dataset])

    with pytest.raises(UnreadableInstanceError):
        render(path, 0)
