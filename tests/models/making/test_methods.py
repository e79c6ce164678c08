"""The contract that every method record is held to, five seconds each."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark import ParameterSet

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from models.making.passes import Shape  # noqa: E402 - torch decides whether this file is read
from models.making.pool import Pool  # noqa: E402
from models.making.record import MethodRecord, method_records, read_method  # noqa: E402
from models.making.scorers.adversarial import Search  # noqa: E402
from models.making.scorers.monte_carlo import MonteCarlo  # noqa: E402
from models.making.scorers.restoration import Restoration  # noqa: E402
from models.making.scorers.sampling import Sampling  # noqa: E402
from models.making.training import Trained, export_head, train  # noqa: E402
from models.runtime import Session  # noqa: E402

PoolOf = Callable[..., Pool]
SEED = 5
STEPS = 20
BATCH = 4
IN_EVERY_RUN = "abdvx"  # families nearest to what is shipped
# The exporters call deprecated parts of torch and onnxscript; that is theirs to mend.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


def shape_of(record: MethodRecord) -> Shape:
    channels = (record.input.channels or 1) * len(record.input.context or (0,))
    return Shape(channels, *(record.input.size or (64, 64)))


def shortened(record: MethodRecord) -> MethodRecord:
    """The same method with a few small steps and no choice among them."""
    stages = tuple(
        stage.model_copy(update={"steps": STEPS, "batch": BATCH, "select_every": 0, "precision": "fp32"})
        for stage in record.stages
    )
    score = record.score
    if isinstance(score.by, MonteCarlo | Sampling):
        score = score.model_copy(update={"by": score.by.model_copy(update={"draws": 2})})
    if isinstance(score.by, Restoration | Search):
        # The graph repeats one step; every further step makes a kink's rounding larger and the export longer.
        score = score.model_copy(update={"by": score.by.model_copy(update={"steps": 1})})
    return record.model_copy(update={"stages": stages, "score": score})


def listed() -> Iterator[ParameterSet]:
    """Every record; all but the first of a near family are left to the long run."""
    awaited = set(IN_EVERY_RUN)
    for path in method_records():
        marks = () if path.stem[0] in awaited else pytest.mark.long
        awaited.discard(path.stem[0])
        yield pytest.param(path, id=path.stem, marks=marks)


@pytest.fixture(scope="module", params=listed())
def record(request: pytest.FixtureRequest) -> MethodRecord:
    return shortened(read_method(request.param))


@pytest.fixture(scope="module")
def trained(record: MethodRecord, discs: PoolOf) -> Trained:
    torch.set_num_threads(1)
    return train(record, discs(shape_of(record)), None, seed=SEED)


def test_objective_falls_over_twenty_steps(trained: Trained, record: MethodRecord) -> None:
    assert len(trained.losses) == len(record.stages)
    for losses in trained.losses:
        assert np.isfinite(losses).all()
        assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_exported_graph_equals_torch_for_every_batch(
    trained: Trained, record: MethodRecord, discs: PoolOf, tmp_path: Path
) -> None:
    export_head(trained.head, tmp_path / "model.onnx")
    session = Session(tmp_path / "model.onnx", providers=("CPUExecutionProvider",))
    pool = discs(shape_of(record), 5, seed=1)
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


@pytest.mark.long
def test_same_seed_gives_the_same_weights(trained: Trained, record: MethodRecord, discs: PoolOf) -> None:
    again = train(record, discs(shape_of(record)), None, seed=SEED)

    for (name, first), second in zip(
        trained.head.state_dict().items(), again.head.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second), name


@pytest.mark.long
@pytest.mark.parametrize("path", method_records(), ids=lambda path: path.stem)
def test_toy_sphere_scores_above_the_median_normal(path: Path, discs: PoolOf) -> None:
    torch.set_num_threads(1)
    whole = read_method(path)
    if whole.open:
        pytest.xfail(whole.open)
    if not whole.stages and whole.score.by.type in ("constant", "intensity"):
        pytest.skip("a baseline that looks at no normal promises nothing")
    head = train(whole, discs(shape_of(whole), 64), None, seed=SEED).head
    normals = discs(shape_of(whole), 16, seed=2)
    lesion = spheres(normals)

    scores = [head(pool.pixels, pool.mask, pool.position)[0].detach().numpy() for pool in (normals, lesion)]

    assert np.median(scores[1]) > np.median(scores[0])


def spheres(pool: Pool) -> Pool:
    """The same images, each with a bright soft disc a sixth of its edge wide."""
    rng = np.random.default_rng(4)
    rows, columns = pool.shape.rows, pool.shape.columns
    y, x = np.mgrid[:rows, :columns]
    added = []
    for _ in range(len(pool)):
        centre = rng.uniform(0.4, 0.6, 2) * (rows, columns)
        distance = np.hypot(y - centre[0], x - centre[1])
        added.append(0.4 * np.clip(rows / 12 - distance + 0.5, 0, 1))
    changed = pool.pixels + torch.from_numpy(np.stack(added)[:, None].astype(np.float32)) * pool.mask
    return Pool(pixels=changed, mask=pool.mask, position=pool.position)
