import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from models.making.augment import Augmentation  # noqa: E402 - torch decides whether this is read
from models.making.networks.hierarchical import HierarchicalPlan  # noqa: E402
from models.making.networks.mixture import MixtureNeck  # noqa: E402
from models.making.networks.pixelcnn import PixelCnnPlan  # noqa: E402
from models.making.networks.quantised import Codebook  # noqa: E402
from models.making.networks.unet import UNetPlan  # noqa: E402
from models.making.objectives.divergence import kl_divergence  # noqa: E402
from models.making.passes import Batch, Code, Shape  # noqa: E402


def test_kl_is_that_of_the_closed_form() -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4.0)]])

    found = kl_divergence(Code(z=mean, mean=mean, log_variance=log_variance))

    # 0.5 (m² + s² - log s² - 1), summed over the code.
    assert float(found) == pytest.approx(0.5 * 1.0 + 0.5 * (4 - math.log(4) - 1))


def test_mixture_with_one_component_at_the_origin_is_the_plain_divergence() -> None:
    neck = MixtureNeck(code=3, components=1, free=0.0).build(Shape(4, 2, 2))
    for name, parameter in neck.named_parameters():
        if name.startswith("prior"):
            torch.nn.init.zeros_(parameter)
    neck.eval()

    code = neck.encode(torch.rand(5, 4, 2, 2), sample=False)

    plain = kl_divergence(Code(z=code.z, mean=code.mean, log_variance=code.log_variance))
    assert torch.allclose(code.losses["conditional"], plain, atol=1e-5)
    assert torch.allclose(code.losses["component"], torch.zeros(5), atol=1e-6)


def test_spatial_mixture_decodes_from_the_code_alone() -> None:
    neck = MixtureNeck(code=2, components=3, spatial=True).build(Shape(6, 4, 4))
    first, second = torch.rand(1, 6, 4, 4), torch.rand(1, 6, 4, 4)
    z = neck.encode(first, sample=False).z

    assert torch.equal(neck.decode(z), neck.decode(z.clone()))
    assert not torch.equal(neck.encode(second, sample=False).z, z)


def test_entries_of_a_codebook_are_the_nearest() -> None:
    book = Codebook(7, 3).eval()
    hidden = torch.rand(2, 3, 4, 4)

    quantised, indices, commitment = book(hidden)

    flat = hidden.movedim(1, -1).reshape(-1, 3)
    expected = torch.cdist(flat, book.embedding).argmin(dim=1).reshape(2, 4, 4)
    assert torch.equal(indices, expected)
    assert torch.allclose(commitment, ((hidden - quantised) ** 2).flatten(1).mean(1))


def test_gradient_passes_straight_through_a_codebook() -> None:
    book = Codebook(7, 3).train()
    hidden = torch.rand(2, 3, 4, 4, requires_grad=True)

    book(hidden)[0].sum().backward()

    assert hidden.grad is not None
    assert torch.equal(hidden.grad, torch.ones_like(hidden))


def test_prior_sees_only_what_comes_before_a_place() -> None:
    torch.manual_seed(1)
    prior = PixelCnnPlan(entries=5, channels=8, layers=3).build(Shape(1, 1, 1)).eval()
    indices = torch.randint(5, (1, 6, 6))
    changed = indices.clone()
    changed[0, 3, 2] = (changed[0, 3, 2] + 1) % 5

    first, second = prior(indices)[0], prior(changed)[0]

    differs = (first - second).abs().amax(0) > 1e-6
    before = np.arange(36).reshape(6, 6) <= 3 * 6 + 2
    assert not differs.numpy()[before].any()
    assert differs.numpy()[3, 3]


def test_parts_of_a_partial_hierarchy_add_up() -> None:
    plan = HierarchicalPlan.model_validate(
        {
            "mode": "partial",
            "shared": {"channels": [4, 4]},
            "deep": {"channels": [8, 8]},
            "high": 3,
            "low": 1,
            "high_decoder": {"channels": [8, 8, 4, 4]},
            "low_decoder": {"channels": [4, 4]},
        }
    )
    network = plan.build(Shape(1, 32, 32)).eval()
    x = torch.rand(2, 1, 32, 32)

    found = network.run(x, torch.zeros(2), sample=False)

    assert found.image is not None
    assert found.code is not None
    assert found.image.shape == x.shape
    assert found.code.losses["coarse"].shape == (2,)


def test_folded_network_answers_in_the_size_of_the_image() -> None:
    network = UNetPlan(channels=(4, 8), fold=2, answers=1, uncertain=True).build(Shape(3, 32, 48)).eval()

    found = network.run(torch.rand(2, 3, 32, 48), torch.zeros(2), sample=False)

    assert found.image is not None
    assert found.log_scale is not None
    assert found.image.shape == found.log_scale.shape == (2, 1, 32, 48)


def test_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of 8"):
        UNetPlan(channels=(4, 8, 8), fold=2).build(Shape(1, 36, 36))


def test_mirrored_and_turned_image_keeps_its_angles() -> None:
    torch.manual_seed(0)
    square = torch.zeros(64, 1, 65, 65)
    square[:, :, 22:43, 22:43] = 1
    batch = Batch(x=square, mask=torch.ones_like(square), position=torch.zeros(64))

    moved = Augmentation(flip_rows=0.5, rotate=25).apply(batch).x

    # A turn and a mirror image keep areas; a shear of columns that are not at right angles does not.
    assert (moved.sum(dim=(1, 2, 3)) - 21**2).abs().max() < 0.03 * 21**2
