"""The scorer of band-pass filters, against scipy and numpy."""

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from pydantic import ValidationError  # noqa: E402 - torch decides whether this file is read
from torch import nn  # noqa: E402

from models.making.passes import Batch  # noqa: E402
from models.making.scorers.bands import BandDensity  # noqa: E402
from models.making.scorers.scoring import Smoothing  # noqa: E402

SIZE = 24


def normals(count: int) -> Batch:
    pixels = np.random.default_rng(0).normal(size=(count, 2, SIZE, SIZE)).astype(np.float32)
    return Batch(
        x=torch.from_numpy(pixels), mask=torch.ones(count, 1, SIZE, SIZE), position=torch.zeros(count)
    )


def test_smoothing_is_a_gaussian_of_each_channel() -> None:
    plane = normals(3).x

    found = Smoothing(1.5)(plane).numpy()

    wanted = ndimage.gaussian_filter(plane.numpy(), (0, 0, 1.5, 1.5), mode="nearest", radius=(0, 0, 5, 5))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_distance_is_that_of_mahalanobis_where_every_place_is_alike() -> None:
    """With a pool wider than the picture each place has the covariance of all."""
    batch = normals(40)
    plan = BandDensity(sigmas=(0, 1), pool=200, floor=0.1)
    scorer = plan.build(nn.ModuleDict())
    scorer.fit(lambda: [batch])

    found = scorer(batch.x[:2], batch.mask[:2], batch.position[:2]).pixel

    bands = (batch.x - Smoothing(1.0)(batch.x)).double().numpy()
    features = np.moveaxis(bands, 1, -1).reshape(-1, 2)
    mean = features.mean(axis=0)
    covariance = np.cov(features, rowvar=False, bias=True)
    covariance += 0.1 * np.diag(np.diag(covariance))
    away = np.moveaxis(bands[:2], 1, -1) - mean
    wanted = np.sqrt(np.einsum("...i,ij,...j", away, np.linalg.inv(covariance), away))
    assert found is not None
    # The wide kernel repeats the border, so borders weigh more than the middle: the two agree in kind.
    assert np.corrcoef(found[:, 0].numpy().ravel(), wanted.ravel())[0, 1] > 0.99


def test_a_bright_spot_stands_out_most_where_it_is() -> None:
    batch = normals(40)
    scorer = BandDensity(sigmas=(0, 1, 2), energy=1.5, lowest=True, pool=2).build(nn.ModuleDict())
    scorer.fit(lambda: [batch])
    changed = batch.x[:1].clone()
    changed[0, :, 7, 15] += 12

    found = scorer(changed, batch.mask[:1], batch.position[:1]).pixel

    assert found is not None
    assert divmod(int(found[0, 0].argmax()), SIZE) == (7, 15)


def test_sigmas_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValidationError, match="sigmas must rise"):
        BandDensity(sigmas=(2, 1), pool=1)
