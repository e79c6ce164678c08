"""Small pools of normals for tests of making."""

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from models.making.passes import Shape  # noqa: E402 - torch decides whether this file is read
from models.making.pool import Pool  # noqa: E402

PoolOf = Callable[..., Pool]


@pytest.fixture(scope="session")
def discs() -> PoolOf:
    """Soft textured discs that differ a little in size: enough for a loss to fall."""

    def make(shape: Shape, n: int = 12, *, seed: int = 0) -> Pool:
        rng = np.random.default_rng(seed)
        y = np.linspace(-1, 1, shape.rows)[:, None]
        x = np.linspace(-1, 1, shape.columns)[None, :]
        images, masks = [], []
        for _ in range(n):
            a, b = rng.uniform(0.6, 0.8, 2)
            radius = np.sqrt((y / a) ** 2 + (x / b) ** 2)
            inside = radius < 1
            image = (0.5 + 0.2 * np.cos(6 * radius) + rng.normal(0, 0.02, radius.shape)) * inside
            images.append(np.repeat(image[None], shape.channels, axis=0))
            masks.append(inside[None])
        return Pool(
            pixels=torch.from_numpy(np.stack(images).astype(np.float32)),
            mask=torch.from_numpy(np.stack(masks).astype(np.float32)),
            position=torch.linspace(-1, 1, n),
        )

    return make
