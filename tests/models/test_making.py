"""Contract of the shipped record, in small: learns, exports exactly, repeats with its seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from models.errors import RecordError  # noqa: E402 - torch decides whether this file is read
from models.making.brain import corrupters, objectives  # noqa: E402
from models.making.brain.data import SlicePool, augment, fit_contract, toy_set  # noqa: E402
from models.making.brain.networks import Denoiser, VariationalAutoencoder  # noqa: E402
from models.making.brain.record import Record, read_record  # noqa: E402
from models.making.brain.scorers import OUTPUTS, Scorer  # noqa: E402
from models.making.brain.trainers import train_cevae, train_denoiser  # noqa: E402
from models.making.export import export_onnx  # noqa: E402
from models.preprocess import Prepared, prepare  # noqa: E402
from models.runtime import Session  # noqa: E402
from models.volume import Volume  # noqa: E402

Brain = Callable[..., Volume]
RECORD = Path(__file__).parents[2] / "models" / "records" / "cevae-t1.yaml"
# The exporters call deprecated parts of torch and onnxscript; that is theirs to mend.
EXPORT_WARNINGS = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


@pytest.fixture(scope="module")
def record() -> Record:
    return read_record(RECORD)


@pytest.fixture(scope="module")
def subject(record: Record, brain: Brain) -> Prepared:
    return prepare(brain(), record.input)


@pytest.fixture(scope="module")
def scorer(record: Record) -> Scorer:
    torch.manual_seed(3)
    rows, columns = record.input.shape[1:]
    return Scorer(
        VariationalAutoencoder(
            size=(rows, columns), channels=record.cevae.channels, latent=record.cevae.latent
        ),
        Denoiser(size=(rows, columns), context=len(record.input.context), channels=record.denoiser.channels),
        middle=record.input.context.index(0),
        gradient_scale=0.01,
    ).eval()


def empty_slices(record: Record) -> dict[str, torch.Tensor]:
    return {
        "slices": torch.zeros(2, len(record.input.context), *record.input.shape[1:]),
        "position": torch.zeros(2),
    }


@pytest.fixture(scope="module")
def exported(scorer: Scorer, record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    example = empty_slices(record)
    export_onnx(scorer, example, OUTPUTS, path)
    return path


def slices_of(subject: Prepared, record: Record, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return SlicePool([subject], context=record.input.context, seed=1, refresh=100).draw(batch)


def short(record: Record, member: str) -> Record:
    plan = {"steps": 20, "batch": 4, "rate": 1e-3, "refresh": 100, "select_every": 10}
    content = record.model_dump()
    content[member]["train"] = plan
    return Record.model_validate(content)


@pytest.mark.parametrize("member", ["cevae", "denoiser"])
def test_objective_falls_within_twenty_steps_and_repeats(
    record: Record, subject: Prepared, member: str
) -> None:
    recipe = short(record, member)
    toys = toy_set([subject], 1)[:1]
    told: list[list[str]] = [[], []]
    found = []
    for lines in told:
        if member == "cevae":
            found.append(train_cevae(recipe.cevae, recipe.input, [subject], toys, 5, lines.append))
        else:
            found.append(train_denoiser(recipe.denoiser, recipe.input, [subject], toys, 5, lines.append))

    first, second = (float(line.split("loss ")[1].split(",")[0]) for line in told[0])
    assert second < first
    assert told[0] == told[1]
    pairs = zip(found[0].state_dict().values(), found[1].state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not found[0].training


def test_networks_stay_within_the_size_of_the_issue(scorer: Scorer) -> None:
    assert sum(parameter.numel() for parameter in scorer.parameters()) <= 2_400_000


@EXPORT_WARNINGS
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_exported_network_equals_torch(
    exported: Path, scorer: Scorer, record: Record, subject: Prepared, batch: int
) -> None:
    slices, position = slices_of(subject, record, batch)

    found = Session(exported, providers=("CPUExecutionProvider",)).run(
        {"slices": slices.numpy(), "position": position.numpy()}
    )

    for name, value in zip(OUTPUTS, scorer(slices, position), strict=True):
        expected = value.detach().numpy()
        relative = np.abs(found[name] - expected) / np.abs(expected).max()
        assert np.quantile(relative, 0.999) <= 1e-4, name


@EXPORT_WARNINGS
def test_score_of_a_slice_does_not_depend_on_its_batch(
    exported: Path, record: Record, subject: Prepared
) -> None:
    slices, position = slices_of(subject, record, 5)
    session = Session(exported, providers=("CPUExecutionProvider",))

    together = session.run({"slices": slices.numpy(), "position": position.numpy()})
    alone = session.run({"slices": slices[3:4].numpy(), "position": position[3:4].numpy()})

    for name in OUTPUTS:
        assert np.allclose(together[name][3], alone[name][0], rtol=1e-4, atol=1e-5), name


@EXPORT_WARNINGS
def test_same_weights_export_to_the_same_bytes(
    exported: Path, scorer: Scorer, record: Record, tmp_path: Path
) -> None:
    example = empty_slices(record)

    export_onnx(scorer, example, OUTPUTS, tmp_path / "again.onnx")

    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_gradient_in_the_scorer_is_the_gradient_of_the_kl(
    scorer: Scorer, record: Record, subject: Prepared
) -> None:
    slices, position = slices_of(subject, record, 2)
    x = slices[:, scorer.middle : scorer.middle + 1].clone().requires_grad_()
    mean, log_variance = scorer.cevae.encode(x, position)
    expected = torch.autograd.grad(objectives.kl_divergence(mean, log_variance).sum(), x)[0].abs()
    smooth = torch.nn.functional.conv2d(expected, scorer.kernel, padding=2)

    found, _, _ = scorer.kl_gradient(x.detach(), position)

    assert torch.allclose(found, smooth, rtol=1e-4, atol=1e-7)


def test_kl_of_the_prior_is_zero_and_grows_with_distance() -> None:
    zero = torch.zeros(1, 4)
    assert objectives.kl_divergence(zero, zero).item() == 0
    assert objectives.kl_divergence(zero + 2, zero).item() == pytest.approx(0.5 * 4 * 4)


def test_patches_differ_from_slice_to_slice_and_repeat_with_the_seed() -> None:
    x = torch.full((8, 1, 32, 32), 2.0)
    arguments = {"most": 3, "size": (0.1, 0.5), "values": (0.0, 1.0)}

    first = corrupters.mask_patches(x, **arguments, generator=torch.Generator().manual_seed(1))
    again = corrupters.mask_patches(x, **arguments, generator=torch.Generator().manual_seed(1))

    assert torch.equal(first, again)
    changed = (first != 2).flatten(1).float().mean(dim=1)
    assert changed.min() > 0
    assert len(changed.unique()) > 4


def test_noise_is_coherent_over_slices_and_stays_inside_the_brain() -> None:
    x = torch.ones(16, 5, 32, 32)
    x[:, :, :8] = 0
    noise = corrupters.coarse_noise(
        x, context=(-4, -2, 0, 2, 4), cells=(8,), sigma=0.2, generator=torch.Generator().manual_seed(2)
    )

    assert not noise[:, :, :8].any()
    near = torch.corrcoef(torch.stack([noise[:, 2].flatten(), noise[:, 3].flatten()]))[0, 1]
    assert near > 0.8
    assert 0.05 < noise[:, :, 8:].std() < 0.4


def test_augmented_volume_keeps_shape_background_and_seed(subject: Prepared) -> None:
    first = augment(subject.voxels, np.random.default_rng(4))
    again = augment(subject.voxels, np.random.default_rng(4))

    assert np.array_equal(first, again)
    assert first.shape == subject.voxels.shape
    assert (first == 0).mean() == pytest.approx((subject.voxels == 0).mean(), abs=0.05)


def test_contract_is_measured_on_the_training_volumes(record: Record, brain: Brain) -> None:
    fitted = fit_contract([brain(), brain(spacing_mm=(1.0, 1.0, 1.0))], record.input)

    assert fitted.brain_width_mm == pytest.approx(2 * 67, abs=4)
    assert fitted.brain_length_mm == pytest.approx(2 * 81, abs=4)
    assert list(fitted.landmark_values) == sorted(fitted.landmark_values)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("cevae", "factor"), 1.5, "cevae.factor"),
        (("cevae", "reduction"), "mean", "cevae.reduction"),
        (("denoiser", "train", "steps"), 0, "denoiser.train.steps"),
        (("input", "shape"), [80, 90, 80], "input.shape"),
        (("heads", "cevae", "source"), "unknown", "heads.cevae.source"),
        (("surprise",), 1, "surprise"),
        (("version",), "one", "version"),
    ],
)
def test_record_error_names_the_field(
    tmp_path: Path, path: tuple[str, ...], value: object, field: str
) -> None:
    content = yaml.safe_load(RECORD.read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "record.yaml").write_text(yaml.safe_dump(content))

    with pytest.raises(RecordError, match=field):
        read_record(tmp_path / "record.yaml")
