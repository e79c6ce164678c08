import numpy as np
import pytest
from numpy.typing import NDArray

from models.images.volumes import axial_slices, to_axial
from models.volume import Volume

AXIAL = np.array([[0, 0, 1.0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
SAGITTAL = np.array([[1, 0, 0.0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
HEAD_FIRST = AXIAL @ np.diag([-1.0, 1, 1, 1])


def volume(affine: NDArray[np.float64], voxels: NDArray[np.float32]) -> Volume:
    return Volume(voxels=voxels, spacing_mm=(1, 1, 1), affine=affine)


@pytest.mark.parametrize("affine", [AXIAL, SAGITTAL, HEAD_FIRST])
def test_slices_are_axial_whatever_the_plane_of_acquisition(affine: NDArray[np.float64]) -> None:
    """The voxel farthest to the left, the back and the head is the last of all."""
    voxels = np.zeros((4, 5, 6), np.float32)
    corners = np.array(np.meshgrid([0, 3], [0, 4], [0, 5], indexing="ij")).reshape(3, -1).T
    farthest = corners[np.argmax((corners @ affine[:3, :3].T).sum(axis=1))]
    voxels[tuple(farthest)] = 100

    slices = axial_slices(volume(affine, voxels))

    assert slices[-1, 0, -1, -1] == 1
    assert slices.sum() == 1


def test_white_fixes_the_scale_for_all_volumes() -> None:
    voxels = np.full((3, 4, 5), 51, np.float32)

    assert np.allclose(axial_slices(volume(AXIAL, voxels), white=255), 0.2)


def test_a_mask_turns_with_its_volume() -> None:
    voxels = np.random.default_rng(1).random((4, 5, 6), dtype=np.float32)

    turned = to_axial(voxels > 0.5, SAGITTAL) > 0

    np.testing.assert_array_equal(turned, to_axial(voxels, SAGITTAL) > 0.5)


def test_padding_is_no_brightness_whatever_its_value() -> None:
    voxels = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    padding = np.zeros(voxels.shape, bool)
    padding[:, 0] = True
    pictures = []
    for value in (-2000.0, 9000.0):
        padded = np.where(padding, np.float32(value), voxels)
        pictures.append(
            axial_slices(Volume(voxels=padded, spacing_mm=(1, 1, 1), affine=AXIAL, padding=padding))
        )
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert pictures[0].max() == 1.0
