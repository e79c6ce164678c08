import pytest

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from torch import Tensor, nn  # noqa: E402 - torch decides

from models.making.half import agrees_in_half  # noqa: E402
from models.making.head import Scoring  # noqa: E402
from models.making.passes import Batch, Shape  # noqa: E402


class Convolved(Scoring):
    """A map that is a convolution of the picture, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.shape = Shape(1, 16, 16)
        self.layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.constant_(self.layer.weight, factor / 9)

    def outputs(self) -> tuple[str, ...]:
        return "image_score", "pixel_score"

    def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        del position
        found = self.layer(x) * mask
        return found.flatten(1).mean(1), found


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(0)
    return Batch(x=torch.rand(4, 1, 16, 16), mask=torch.ones(4, 1, 16, 16), position=torch.zeros(4))


def test_ordinary_numbers_survive_half_precision(batch: Batch) -> None:
    assert agrees_in_half(Convolved(1.0), batch)


def test_numbers_beyond_those_of_half_precision_keep_a_model_in_float32(batch: Batch) -> None:
    """The largest number of fp16 is 65504."""
    assert not agrees_in_half(Convolved(1e6), batch)


def test_operator_without_mixed_types_keeps_a_model_in_float32(batch: Batch) -> None:
    class Strict(Convolved):
        def forward(self, x: Tensor, mask: Tensor, position: Tensor) -> tuple[Tensor, ...]:
            image, plane = super().forward(x, mask, position)
            kept = torch.zeros_like(x)
            kept.index_put_((torch.tensor([0]),), self.layer(x)[:1])
            return image, plane + kept

    assert not agrees_in_half(Strict(1.0), batch)
