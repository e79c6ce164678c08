import numpy as np
import pytest

from models.images.anomalies import CATEGORIES, Dose, Stack, blob, contrast, diameter, dropped, sphere


def stack(slices: int = 9) -> Stack:
    """A ball of smooth texture."""
    rng = np.random.default_rng(4)
    depth, row, column = np.mgrid[:slices, :64, :64]
    middle = (slices - 1) / 2
    mask = ((depth - middle) / (middle + 0.5)) ** 2 + ((row - 32) / 26) ** 2 + ((column - 32) / 22) ** 2 < 1
    texture = 0.5 + 0.1 * rng.standard_normal((slices, 64, 64))
    pixels = np.where(mask, texture.clip(0.1, 0.9), 0).astype(np.float32)[:, None]
    return Stack(pixels=pixels, mask=mask)


LOCAL = sorted(name for name, category in CATEGORIES.items() if category.scope == "local")
GLOBAL = sorted(set(CATEGORIES) - set(LOCAL))


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("slices", [1, 9])
def test_a_local_anomaly_changes_its_place_and_little_else(name: str, slices: int) -> None:
    before = stack(slices)

    made = CATEGORIES[name].make(before, np.random.default_rng(3), Dose(radius=0.12))

    assert made.lesion is not None
    assert made.lesion.any()
    assert not (made.lesion & ~before.mask).any()
    changed = np.abs(made.pixels - before.pixels)[:, 0]
    assert changed[~before.mask].max() == 0
    assert changed[made.lesion].mean() > 20 * changed[~made.lesion].mean()
    assert made.touched.tolist() == made.lesion.any(axis=(1, 2)).tolist()


@pytest.mark.parametrize("name", GLOBAL)
def test_a_global_anomaly_has_no_place(name: str) -> None:
    before = stack()

    made = CATEGORIES[name].make(before, np.random.default_rng(3), Dose())

    assert made.lesion is None
    assert made.touched.any()
    assert np.abs(made.pixels - before.pixels)[made.touched].mean() > 0.005
    assert made.pixels[:, 0][~made.mask].max() == 0


@pytest.mark.parametrize("name", sorted(CATEGORIES))
def test_the_same_draw_gives_the_same_anomaly(name: str) -> None:
    first, second, other = (
        CATEGORIES[name].make(stack(), np.random.default_rng(seed), Dose()) for seed in (5, 5, 6)
    )

    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert not np.array_equal(first.pixels, other.pixels)
    assert first.pixels.dtype == np.float32
    assert np.isfinite(first.pixels).all()


def test_a_radius_is_a_share_of_the_body() -> None:
    before = stack(1)

    made = sphere(before, np.random.default_rng(1), Dose(radius=0.1, intensity=1.0))

    assert made.lesion is not None
    radius = 0.1 * diameter(before)
    assert np.pi * radius**2 * 0.7 < made.lesion.sum() < (2 * radius + 1) ** 2


def test_a_blob_is_dark_or_bright_as_told() -> None:
    before = stack()

    for intensity, sign in ((0.0, -1), (1.0, 1)):
        made = blob(before, np.random.default_rng(2), Dose(intensity=intensity, radius=0.12))
        assert made.lesion is not None
        assert sign * (made.pixels - before.pixels)[:, 0][made.lesion].mean() > 0.1


def test_half_a_dose_of_contrast_is_none() -> None:
    before = stack()

    made = contrast(before, np.random.default_rng(2), Dose(intensity=0.5))

    np.testing.assert_allclose(made.pixels, before.pixels, atol=1e-5)


def test_a_lesion_has_its_middle_where_it_may() -> None:
    allowed = np.zeros(9, dtype=np.bool_)
    allowed[4] = True

    for seed in range(10):
        made = sphere(stack(), np.random.default_rng(seed), Dose(radius=0.02, slices=allowed))
        assert made.touched[4]


def test_lost_slices_lie_together() -> None:
    made = dropped(stack(10), np.random.default_rng(1), Dose(intensity=0.3))

    lost = np.flatnonzero(made.touched)
    assert np.diff(lost).tolist() == [1] * (len(lost) - 1)
    assert len(lost) == 3
    assert made.pixels[lost].max() == 0
