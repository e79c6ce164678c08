"""The contract that every method record is held to, five seconds each."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from models.making.passes import Shape  # noqa: E402 - torch decides whether this file is read
from models.making.pool import Pool  # noqa: E402
from models.making.record import MethodRecord, method_records, read_method  # noqa: E402
from models.making.scorers.restoration import Restoration  # noqa: E402
from models.making.training import Trained, export_head, train  # noqa: E402
from models.runtime import Session  # noqa: E402

SEED = 5
IMAGES = 12
STEPS = 20
BATCH = 4
# The exporters call deprecated parts of torch and onnxscript; that is theirs to mend.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


def heads(record: MethodRecord, n: int = IMAGES, *, seed: int = 0) -> Pool:
    """Soft textured discs that differ a little in size and place: enough for a loss to fall."""
    shape = Shape(channels_of(record), *(record.input.size or (64, 64)))
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


def channels_of(record: MethodRecord) -> int:
    return len(record.input.context or (0,))


def shortened(record: MethodRecord) -> MethodRecord:
    """The same method with a few small steps and no choice among them."""
    stages = tuple(
        stage.model_copy(update={"steps": STEPS, "batch": BATCH, "select_every": 0, "precision": "fp32"})
        for stage in record.stages
    )
    score = record.score
    if isinstance(score.by, Restoration):
        # The graph repeats one step; every further step makes a kink's rounding larger and the export longer.
        score = score.model_copy(update={"by": score.by.model_copy(update={"steps": 1})})
    return record.model_copy(update={"stages": stages, "score": score})


@pytest.fixture(scope="module", params=method_records(), ids=lambda path: path.stem)
def record(request: pytest.FixtureRequest) -> MethodRecord:
    return shortened(read_method(request.param))


@pytest.fixture(scope="module")
def trained(record: MethodRecord) -> Trained:
    torch.set_num_threads(1)
    return train(record, heads(record), None, seed=SEED)


def test_objective_falls_over_twenty_steps(trained: Trained) -> None:
    for losses in trained.losses:
        assert np.isfinite(losses).all()
        assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_exported_graph_equals_torch_for_every_batch(
    trained: Trained, record: MethodRecord, tmp_path: Path
) -> None:
    export_head(trained.head, tmp_path / "model.onnx")
    session = Session(tmp_path / "model.onnx", providers=("CPUExecutionProvider",))
    pool = heads(record, 5, seed=1)
    expected = trained.head(pool.pixels, pool.mask, pool.position)

    for size in (1, 5):
        found = session.run(
            {
                "x": pool.pixels[:size].numpy(),
                "mask": pool.mask[:size].numpy(),
                "position": pool.position[:size].numpy(),
            }
        )
        assert tuple(found) == trained.head.outputs()
        for name, value in zip(trained.head.outputs(), expected, strict=True):
            wanted = value[:size].detach().numpy()
            wrong = np.abs(found[name] - wanted) / max(np.abs(wanted).max(), 1e-12)
            assert np.quantile(wrong, 0.999) <= 1e-4, name


def test_same_seed_gives_the_same_weights(trained: Trained, record: MethodRecord) -> None:
    again = train(record, heads(record), None, seed=SEED)

    for (name, first), second in zip(
        trained.head.state_dict().items(), again.head.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second), name
