import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.uid import RLELossless

from dicom_node.errors import UnreadableInstanceError
from dicom_node.picture import encode_png, read_frame, shrink
from tests.seeds import write_capture


@pytest.fixture
def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (4, 10, 14, 3), dtype=np.uint8)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_frame_is_read_as_it_was_written(
    tmp_path: Path, frames: NDArray[np.uint8], is_compressed: bool
) -> None:
    path = tmp_path / "capture.dcm"
    write_capture(path, frames)
    if is_compressed:
        capture = dcmread(path)
        capture.compress(RLELossless, generate_instance_uid=False)
        capture.save_as(path)
    for index in range(4):
        np.testing.assert_array_equal(read_frame(path, index), frames[index])


@pytest.mark.parametrize("index", [-1, 4, 10**9])
def test_a_frame_that_is_not_there_is_an_index_error(
    tmp_path: Path, frames: NDArray[np.uint8], index: int
) -> None:
    write_capture(tmp_path / "capture.dcm", frames)
    with pytest.raises(IndexError):
        read_frame(tmp_path / "capture.dcm", index)


def test_a_single_picture_is_its_own_first_frame(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    write_capture(tmp_path / "capture.dcm", frames[:1])
    capture = dcmread(tmp_path / "capture.dcm")
    del capture.NumberOfFrames
    capture.save_as(tmp_path / "capture.dcm")
    np.testing.assert_array_equal(read_frame(tmp_path / "capture.dcm", 0), frames[0])


def test_what_is_not_a_colour_object_is_unreadable(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    path = tmp_path / "capture.dcm"
    write_capture(path, frames)
    capture = dcmread(path)
    capture.SamplesPerPixel = 1
    capture.save_as(path)
    with pytest.raises(UnreadableInstanceError):
        read_frame(path, 0)


def test_cut_pixels_and_foreign_files_are_unreadable_and_quote_nothing(
    tmp_path: Path, frames: NDArray[np.uint8]
) -> None:
    path = tmp_path / "capture.dcm"
    write_capture(path, frames)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(UnreadableInstanceError) as raised:
        read_frame(path, 3)
    assert raised.value.__suppress_context__
    path.write_bytes(b"DOE^JANE")
    with pytest.raises(UnreadableInstanceError):
        read_frame(path, 0)


def test_a_png_holds_the_same_pixels(frames: NDArray[np.uint8]) -> None:
    with Image.open(io.BytesIO(encode_png(frames[0]))) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), frames[0])


def test_a_picture_for_a_list_keeps_its_shape_and_a_small_one_its_pixels() -> None:
    large = np.zeros((200, 400, 3), np.uint8)
    large[:, 200:] = 250
    small = shrink(large, 100)
    assert small.shape == (50, 100, 3)
    assert (small[:, :45] == 0).all()
    assert (small[:, 55:] == 250).all()
    np.testing.assert_array_equal(shrink(small, 100), small)
