"""Critics, generators and their training: what the contract of all methods does not already prove."""

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from models.errors import TrainingError  # noqa: E402 - torch decides whether this file is read
from models.making.networks.adversarial import Judgement  # noqa: E402
from models.making.networks.attention import (  # noqa: E402
    MinibatchDiscrimination,
    SelfAttention,
    fold_spectral,
    spectral,
)
from models.making.networks.progressive import ProgressiveGenerator, ProgressiveGeneratorPlan  # noqa: E402
from models.making.objectives.adversarial import contest, gradient_penalty  # noqa: E402
from models.making.passes import Shape  # noqa: E402
from models.making.pool import Pool  # noqa: E402
from models.making.record import MethodRecord, read_method  # noqa: E402
from models.making.scorers.scoring import Scorer  # noqa: E402
from models.making.trainers.adversarial import AdversarialTrainer, Collapse  # noqa: E402
from models.making.trainers.progressive import ProgressiveTrainer  # noqa: E402
from models.making.training import build_networks, train  # noqa: E402

PoolOf = Callable[..., Pool]
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


def short(name: str, **changes: object) -> MethodRecord:
    record = read_method(name)
    update = {"steps": 3, "batch": 4, "select_every": 0, "precision": "fp32", **changes}
    return record.model_copy(update={"stages": tuple(s.model_copy(update=update) for s in record.stages)})


def test_gradient_penalty_takes_the_norm_over_every_axis() -> None:
    slope = torch.full((1, 2, 3, 4), 0.5)

    def judge(*given: torch.Tensor) -> Judgement:
        return Judgement((given[0] * slope).flatten(1).sum(dim=1), given[0])

    images = (torch.rand(5, 2, 3, 4),)

    found = gradient_penalty(judge, images, (torch.rand(5, 2, 3, 4),))

    norm = (24 * 0.5**2) ** 0.5
    assert float(found) == pytest.approx((norm - 1) ** 2, rel=1e-5)


def test_gradient_penalty_looks_between_real_and_fake_with_one_share_a_sample() -> None:
    seen: list[torch.Tensor] = []

    def judge(*given: torch.Tensor) -> Judgement:
        seen.extend(given)
        return Judgement(given[0].flatten(1).sum(dim=1) + given[1].sum(dim=1), given[0])

    gradient_penalty(
        judge, (torch.zeros(6, 1, 2, 2), torch.zeros(6, 3)), (torch.ones(6, 1, 2, 2), torch.ones(6, 3))
    )

    image, code = seen
    assert bool(((image >= 0) & (image <= 1)).all())
    assert torch.equal(image[:, 0, 0, :1].expand(6, 3), code)
    assert len(code[:, 0].unique()) == 6


def test_a_critic_that_knows_pays_less_than_one_that_does_not() -> None:
    sure, unsure = torch.full((4,), 3.0), torch.zeros(4)
    for how in ("wasserstein", "logistic", "hinge"):
        assert (
            contest(how, sure, real=True) < contest(how, unsure, real=True) < contest(how, -sure, real=True)
        )
        assert contest(how, -sure, real=False) < contest(how, sure, real=False)


def test_minibatch_discrimination_scores_an_image_the_same_alone_and_in_company() -> None:
    layer = MinibatchDiscrimination(6, 3)
    layer.remember(torch.rand(5, 6))
    layer.eval()
    features = torch.rand(4, 6)

    assert torch.allclose(layer(features)[:1], layer(features[:1]))
    assert bool((layer(features)[:, 6:] > 0).all())


def test_folded_spectral_norm_leaves_a_plain_weight_of_norm_one() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Sequential(spectral(torch.nn.Linear(7, 5)))
    for _ in range(50):
        layer(torch.rand(2, 7))
    x = torch.rand(2, 7)
    layer.eval()
    before = layer(x)

    fold_spectral(layer)

    assert torch.allclose(layer(x), before)
    assert {name for name, _ in layer.named_parameters()} == {"0.weight", "0.bias"}
    weight = layer.get_parameter("0.weight")
    assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1, abs=1e-4)


def test_self_attention_starts_as_the_identity() -> None:
    x = torch.rand(2, 8, 4, 4)
    assert torch.equal(SelfAttention(8)(x), x)


def test_second_stage_moves_the_encoder_alone(discs: PoolOf) -> None:
    record = short("g5-fanogan-izif")
    first = record.model_copy(update={"stages": record.stages[:1]})
    pool = discs(Shape(1, 64, 64))

    one = train(first, pool, None, seed=1).networks
    two = train(record, pool, None, seed=1).networks

    for name in ("generator", "critic"):  # buffers of batch norm included
        for key, value in one[name].state_dict().items():
            assert torch.equal(value, two[name].state_dict()[key]), (name, key)
    assert any(
        not torch.equal(value, two["encoder"].state_dict()[key])
        for key, value in one["encoder"].state_dict().items()
    )


def test_collapsed_generator_stops_with_a_clear_message(discs: PoolOf) -> None:
    record = short("g1-dcgan", collapse=Collapse(after=2, every=1))

    with pytest.raises(TrainingError, match=r"collapsed: at step 2 .* less than 0\.5"):
        train(record, discs(Shape(1, 64, 64)), None, seed=1)


def test_levels_fade_in_one_after_the_other() -> None:
    stage = read_method("g8-progressive-ganomaly").stages[0]
    assert isinstance(stage, ProgressiveTrainer)

    course = [stage.level_at(step) for step in range(stage.steps)]

    assert [level for level, _ in course] == sorted(level for level, _ in course)
    assert {level for level, _ in course} == {0, 1, 2}
    assert {alpha for level, alpha in course if level == 0} == {1.0}
    grown = [alpha for level, alpha in course if level == 2]
    assert 0 < grown[0] < 0.2
    assert grown == sorted(grown)
    assert grown[-1] == 1.0


def test_growing_generator_starts_a_level_with_the_image_of_the_one_before() -> None:
    network = ProgressiveGeneratorPlan(code=5, channels=(8, 8, 4)).build(Shape(1, 16, 16))
    assert isinstance(network, ProgressiveGenerator)
    z = torch.randn(2, 5)
    network.grow(0, 1.0)
    coarse = network.decode(z)

    network.grow(1, 0.0)
    fine = network.decode(z)

    assert coarse.shape[2:] == (8, 8)
    assert torch.allclose(fine, torch.nn.functional.interpolate(coarse, scale_factor=2.0), atol=1e-6)


def test_collapsed_code_is_floored(discs: PoolOf) -> None:
    record = read_method("g7-ganomaly")
    plan = record.score.by.model_copy(update={"normalise": "mad"})
    networks = build_networks(record, Shape(1, 32, 32), 0).eval()
    networks["critic"].get_parameter("code.weight").data.zero_()
    scorer = plan.build(networks)
    assert isinstance(scorer, Scorer)
    pool = discs(Shape(1, 32, 32))

    scorer.fit(pool.chunks)

    assert float(scorer.scale.min()) == pytest.approx(1e-6)
    assert torch.isfinite(scorer(pool.pixels, pool.mask, pool.position).image).all()


def test_critics_without_a_contest_are_refused() -> None:
    with pytest.raises(ValueError, match="given together"):
        AdversarialTrainer.model_validate(
            {
                "networks": ["a"],
                "cast": {"generator": "a"},
                "critics": ["b"],
                "steps": 1,
                "terms": [{"type": "fool", "critic": "b", "of": ["fake"]}],
            }
        )
