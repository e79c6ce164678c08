import gzip

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from service import nifti

# Along slices 3 mm, rows 2 mm, columns 1.5 mm, with slices running from head to foot.
AFFINE = np.array([[0, 0, 1.5, -20], [0, 2, 0, 11], [-3, 0, 0, 5], [0, 0, 0, 1]], dtype=np.float64)


def read(parts: list[bytes]) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(b"".join(parts)))


def voxels(values: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
    return (np.arange(4 * 3 * 2).reshape(4, 3, 2) - 5 if values is None else values).astype(np.float32)


def test_whole_values_come_back_as_they_are_in_their_place() -> None:
    image = read(list(nifti.of_voxels(voxels(), AFFINE)))

    assert image.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(image.dataobj), voxels().transpose(2, 1, 0))
    # The voxel at slice 3, row 2, column 1 lies in LPS where the affine says; NIfTI has RAS.
    left, posterior, superior = (AFFINE @ [3, 2, 1, 1])[:3]
    assert np.allclose(image.affine @ [1, 2, 3, 1], [-left, -posterior, superior, 1])
    assert np.allclose(image.header.get_zooms(), (1.5, 2.0, 3.0))


def test_other_values_come_back_to_a_step_of_their_range() -> None:
    values = np.linspace(-0.3, 1.7, 24).reshape(4, 3, 2)
    found = np.asarray(read(list(nifti.of_voxels(voxels(values), AFFINE))).dataobj)

    assert np.abs(found - values.transpose(2, 1, 0)).max() <= 2.0 / 65535


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_counts_as_the_least(odd: float) -> None:
    values = voxels()
    values[0, 0, 0] = odd

    assert np.asarray(read(list(nifti.of_voxels(values, AFFINE))).dataobj)[0, 0, 0] == -4


def test_a_volume_of_nothing_is_dark() -> None:
    assert not np.asarray(
        read(list(nifti.of_voxels(np.full((2, 2, 2), np.nan, np.float32), AFFINE))).dataobj
    ).any()


def test_a_map_lies_on_the_grid_of_its_volume_and_is_never_above_its_value() -> None:
    values = voxels(np.linspace(-0.5, 1.5, 24).reshape(4, 3, 2))
    image = read(list(nifti.of_map(values, AFFINE)))
    found = np.asarray(image.dataobj)
    clipped = np.clip(values, 0, 1).transpose(2, 1, 0)

    assert image.get_data_dtype() == np.uint8
    assert np.allclose(image.affine, read(list(nifti.of_voxels(values, AFFINE))).affine)
    assert (found <= clipped + 1e-6).all()
    assert (found > clipped - 1 / 255 - 1e-6).all()


def test_the_same_volume_makes_the_same_bytes_and_tells_nothing_else() -> None:
    first, again = (b"".join(nifti.of_voxels(voxels(), AFFINE)) for _ in range(2))

    assert first == again
    header = nib.Nifti1Image.from_bytes(gzip.decompress(first)).header
    told = b"".join(bytes(header[name]) for name in ("descrip", "aux_file", "db_name", "intent_name"))
    assert not any(told)
