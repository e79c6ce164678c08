import gzip
import io
import struct
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from models.errors import DatasetError
from models.images import files


def test_bytes_and_sixteen_bit_pictures_keep_the_range_of_their_format(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 51]], np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.array([[0, 13107]], np.uint16)).save(tmp_path / "b.png")

    for name in ("a.png", "b.png"):
        np.testing.assert_allclose(files.read_image(tmp_path / name), [[[[0, 0.2]]]], atol=1e-6)


def test_a_colour_picture_has_three_channels(tmp_path: Path) -> None:
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[..., 1] = 255
    Image.fromarray(colours).save(tmp_path / "a.png")

    read = files.read_image(tmp_path / "a.png")

    assert read.shape == (1, 3, 4, 6)
    assert read.mean(axis=(0, 2, 3)).tolist() == [0, 1, 0]


def test_a_volume_is_seen_as_on_a_screen(tmp_path: Path) -> None:
    """Whatever way it is stored: feet to head, front to back, patient's right to left."""
    ras = np.zeros((4, 5, 6), np.uint8)
    ras[3, 4, 5] = 255  # right, front, top
    stored = ras[::-1].transpose(1, 0, 2)  # left to right and first axis to the front
    affine = np.array([[0, -1.0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), affine), tmp_path / "v.nii.gz")

    read = files.read_nifti(tmp_path / "v.nii.gz")

    assert read.shape == (6, 1, 5, 4)
    assert np.argwhere(read == 1).tolist() == [[5, 0, 0, 0]]


def test_other_numbers_are_scaled_by_their_own_extent(tmp_path: Path) -> None:
    values = files.as_brightness(np.array([-1000, 0, 1000], np.int16), tmp_path)

    assert values.tolist() == [0, 0.5, 1]


def test_a_value_that_is_not_finite_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"scan\.nii: holds values that are not finite"):
        files.as_brightness(np.array([0.0, np.nan]), tmp_path / "scan.nii")


@pytest.mark.parametrize("name", ["a.png", "a.nii.gz", "a.npz", "a.gz"])
@pytest.mark.parametrize("content", [None, b"", b"not what it seems" * 40])
def test_a_missing_or_broken_file_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(DatasetError, match=f"^{name}: "):
        if name == "a.png":
            files.read_image(tmp_path / name)
        elif name == "a.nii.gz":
            files.read_nifti(tmp_path / name)
        elif name == "a.npz":
            files.read_arrays(tmp_path / name, ("image",))
        else:
            files.read_idx(tmp_path / name)


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.array([{"a": 1}], dtype=object))

    with pytest.raises(DatasetError, match=r"a\.npz"):
        files.read_arrays(tmp_path / "a.npz", ("image",))


def test_a_header_that_promises_more_than_there_is_is_not_believed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": (10000, 10000)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image.npy", buffer.getvalue() + b"12345")

    with pytest.raises(DatasetError, match="shorter than its header says"):
        files.read_arrays(tmp_path / "a.npz", ("image",))


def test_a_missing_array_is_named_with_those_there_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", flair=np.zeros(3))

    with pytest.raises(DatasetError, match="no array image; it has flair"):
        files.read_arrays(tmp_path / "a.npz", ("image",))


def test_sizes_beyond_the_limit_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST_VALUES", 99)
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", image=np.zeros((10, 10), np.uint8))
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 2**31)))

    for name, read in (
        ("a.png", files.read_image),
        ("a.nii", files.read_nifti),
        ("a.gz", files.read_idx),
        ("a.npz", lambda path: files.read_arrays(path, ("image",))),
    ):
        with pytest.raises(DatasetError, match="at most 99"):
            read(tmp_path / name)


def test_an_idx_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 10) + b"1234"))

    with pytest.raises(DatasetError, match="cut short after 4 of 10"):
        files.read_idx(tmp_path / "a.gz")


def test_a_series_of_volumes_is_no_volume(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 5, 5, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")

    with pytest.raises(DatasetError, match="not that of one volume"):
        files.read_nifti(tmp_path / "a.nii")
