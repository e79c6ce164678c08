from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from models.artefact import InputContract
from models.errors import NotAssessableError, Reason
from models.preprocess import Prepared, clean_voxels, prepare, resample, to_source
from models.volume import Volume

from .conftest import AXIAL, CORONAL, HALF_AXES_MM, SAGITTAL

Brain = Callable[..., Volume]
BRIGHT_MM = (21.0, -32.0, 35.0)
OBLIQUE = Rotation.from_euler("xyz", [12, -7, 9], degrees=True).as_matrix() @ AXIAL
REVERSED = AXIAL * np.array([-1, 1, -1])

CONTRACT = InputContract(
    shape=(80, 96, 80),
    spacing_mm=2.0,
    brain_width_mm=135.0,
    brain_length_mm=164.0,
    scale_range=(0.85, 1.2),
    top_slice=77,
    landmark_percentiles=(10, 25, 50, 75, 90),
    landmark_values=(0.25, 0.4, 0.55, 0.7, 0.8),
    clip=(0.01, 5.0),
    context=(0,),
    batch=8,
)


def brightest_mm(prepared: Prepared) -> np.ndarray:
    values = prepared.voxels.astype(np.float64)
    index = np.argwhere(values > 0.75 * values.max()).mean(axis=0)
    return prepared.affine[:3, :3] @ index + prepared.affine[:3, 3]


@pytest.mark.parametrize(
    ("directions", "spacing_mm"),
    [
        (AXIAL, (2.0, 2.0, 2.0)),
        (REVERSED, (2.0, 1.0, 1.0)),
        (CORONAL, (1.5, 1.0, 1.0)),
        (SAGITTAL, (1.2, 1.0, 1.0)),
        (OBLIQUE, (2.0, 1.5, 1.5)),
    ],
    ids=["axial", "reversed", "coronal", "sagittal", "oblique"],
)
def test_bright_ball_stays_at_its_patient_coordinate(
    brain: Brain, directions: np.ndarray, spacing_mm: tuple[float, float, float]
) -> None:
    volume = brain(directions=directions, spacing_mm=spacing_mm, bright_mm=BRIGHT_MM)

    prepared = prepare(volume, CONTRACT)

    assert np.linalg.norm(brightest_mm(prepared) - BRIGHT_MM) < 1.5


@pytest.mark.parametrize("directions", [AXIAL, REVERSED, CORONAL, OBLIQUE], ids=["a", "r", "c", "o"])
def test_map_comes_back_to_the_voxels_it_was_made_from(brain: Brain, directions: np.ndarray) -> None:
    volume = brain(directions=directions, spacing_mm=(2.0, 1.5, 1.5), bright_mm=BRIGHT_MM)
    prepared = prepare(volume, CONTRACT)

    back = to_source(prepared.voxels, prepared, volume)

    assert back.shape == volume.voxels.shape
    index = np.argwhere(back > 0.75 * back.max()).mean(axis=0)
    found = volume.affine[:3, :3] @ index + volume.affine[:3, 3]
    assert np.linalg.norm(found - BRIGHT_MM) < 1.5


def test_linear_function_of_place_survives_the_way_back(brain: Brain) -> None:
    volume = brain(directions=OBLIQUE)
    prepared = prepare(volume, CONTRACT)
    index = np.indices(prepared.voxels.shape).reshape(3, -1)
    place = (prepared.affine[:3, :3] @ index).T + prepared.affine[:3, 3]
    ramp = (place @ [1.0, 2.0, 3.0]).reshape(prepared.voxels.shape).astype(np.float32)

    back = to_source(ramp, prepared, volume)

    inside = volume.voxels > 0
    source = (volume.affine[:3, :3] @ np.argwhere(inside).T).T + volume.affine[:3, 3]
    assert np.allclose(back[inside], source @ [1.0, 2.0, 3.0], atol=1e-2)


def test_storage_order_does_not_change_what_the_network_sees(brain: Brain) -> None:
    volume = brain()
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, volume.voxels.shape[0] - 1
    stored = replace(
        volume,
        voxels=np.ascontiguousarray(volume.voxels[::-1].transpose(2, 0, 1)),
        affine=(volume.affine @ flip)[:, [2, 0, 1, 3]],
    )

    first, second = prepare(volume, CONTRACT), prepare(stored, CONTRACT)

    assert np.allclose(first.affine, second.affine, atol=1e-9)
    assert np.allclose(first.voxels, second.voxels, atol=1e-4)


@pytest.mark.parametrize(("slope", "intercept"), [(3.7, 0.0), (0.01, 0.0), (2.0, -1024.0)])
def test_linear_scaling_of_intensities_changes_nothing(brain: Brain, slope: float, intercept: float) -> None:
    volume = brain()
    scaled = replace(volume, voxels=volume.voxels * np.float32(slope) + np.float32(intercept))

    first, second = prepare(volume, CONTRACT), prepare(scaled, CONTRACT)

    assert np.allclose(first.voxels, second.voxels, atol=1e-3)


def test_brain_is_scaled_to_the_reference_box_and_its_top_put_at_the_top_slice(brain: Brain) -> None:
    prepared = prepare(brain(), CONTRACT)

    filled = [np.flatnonzero(prepared.mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]

    assert abs(filled[0][-1] - CONTRACT.top_slice) <= 1
    assert abs(2 * np.ptp(filled[1]) - CONTRACT.brain_length_mm) <= 4
    assert abs(2 * np.ptp(filled[2]) - CONTRACT.brain_width_mm) <= 4
    assert prepared.spacing_mm[2] == pytest.approx(2 * 2 * HALF_AXES_MM[0] / 135.0, rel=0.03)


def test_fine_detail_is_averaged_not_sampled_when_the_grid_is_coarser() -> None:
    checker = (np.indices((64, 64, 64)).sum(axis=0) % 2).astype(np.float32)
    volume = Volume(voxels=checker, spacing_mm=(1.0, 1.0, 1.0), affine=np.eye(4))
    affine = np.diag([4.0, 4.0, 4.0, 1.0])

    coarse = resample(checker, volume, affine, (16, 16, 16))

    assert np.allclose(coarse[3:-3, 3:-3, 3:-3], 0.5, atol=0.01)


def test_padding_and_background_become_zero() -> None:
    voxels = np.full((4, 4, 4), -50, dtype=np.float32)
    voxels[1, 1, 1], voxels[0, 0, 0] = 10, -2000
    padding = voxels == -2000
    volume = Volume(voxels=voxels, spacing_mm=(1, 1, 1), affine=np.eye(4), padding=padding)

    cleaned = clean_voxels(volume)

    assert cleaned.sum() == cleaned[1, 1, 1] == 60


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_constant_voxels_are_not_assessable(value: float) -> None:
    volume = Volume(
        voxels=np.full((30, 30, 30), value, dtype=np.float32), spacing_mm=(2, 2, 2), affine=np.eye(4)
    )

    with pytest.raises(NotAssessableError) as refusal:
        prepare(volume, CONTRACT)

    assert refusal.value.reason is Reason.CONSTANT_PIXELS
