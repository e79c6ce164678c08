import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from models.artefact import CALIBRATION, NETWORK, PictureArtefact, load_artefact  # noqa: E402 - torch decides
from models.errors import ArtefactError, DatasetError, RecordError, TrainingError  # noqa: E402
from models.images.description import describe  # noqa: E402
from models.images.predictor import PicturePredictor, join_slices  # noqa: E402
from models.making.head import Head  # noqa: E402
from models.making.passes import Shape  # noqa: E402
from models.making.pool import Pool  # noqa: E402
from models.making.record import read_method  # noqa: E402
from models.making.training import Run, build_networks, export_head, train  # noqa: E402
from models.making.workshop import ORDER, export_run, train_pictures  # noqa: E402
from models.runtime import Session  # noqa: E402
from models.volume import Volume  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
STEPS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve normal people and two abnormal pictures of discs, with a manifest."""
    place = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:80j, -1:1:80j]
    rows = ["file,patient,split,label,finding"]
    for i in range(16):
        radius = np.hypot(y / rng.uniform(0.6, 0.8), x / rng.uniform(0.6, 0.8))
        image = np.where(radius < 1, 120 + 50 * np.cos(6 * radius) + rng.normal(0, 4, y.shape), 0)
        is_abnormal = i >= 14
        if is_abnormal:
            image[np.hypot(y - 0.2, x) < 0.2] = 250
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(place / f"{i}.png")
        split = "train" if i < 12 else "val"
        rows.append(f"{i}.png,p{i},{split},{int(is_abnormal)},{'disc' if is_abnormal else ''}")
    (place / "manifest.csv").write_text("\n".join(rows) + "\n")
    return place


@pytest.fixture(scope="module")
def artefact(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_pictures("v5-cevae", folder, tmp_path_factory.mktemp("out"), 1, steps=STEPS)


def test_training_ends_with_an_artefact_that_can_be_loaded(artefact: Path) -> None:
    found = load_artefact(artefact)

    assert isinstance(found, PictureArtefact)
    assert found.manifest.training.subjects == {"train": 8, "selection": 2, "calibration": 2}
    assert len(json.loads((artefact / CALIBRATION).read_text())["scores"]) == 2
    assert PicturePredictor.load(found).identity.n == 2


def test_changed_byte_is_refused_with_the_name_of_the_file(artefact: Path, tmp_path: Path) -> None:
    copy = tmp_path / artefact.name
    copy.mkdir()
    for file in artefact.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    content = bytearray((copy / NETWORK).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / NETWORK).write_bytes(content)

    with pytest.raises(ArtefactError, match=NETWORK):
        load_artefact(copy)


def test_same_seed_gives_the_same_network_file(artefact: Path, folder: Path, tmp_path: Path) -> None:
    again = train_pictures("v5-cevae", folder, tmp_path, 1, steps=STEPS)

    assert (again / NETWORK).read_bytes() == (artefact / NETWORK).read_bytes()


def test_killed_run_goes_on_and_ends_with_the_same_weights(
    artefact: Path, folder: Path, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(_stage: str, step: int, _steps: int) -> None:
        if step == STEPS // 2:
            raise KilledError

    with pytest.raises(KilledError):
        train_pictures("v5-cevae", folder, tmp_path, 1, steps=STEPS, report=kill, checkpoint_steps=1)
    seen: list[int] = []

    again = train_pictures(
        "v5-cevae", folder, tmp_path, 1, steps=STEPS, report=lambda _stage, step, _steps: seen.append(step)
    )

    assert seen[0] > 1
    assert (again / NETWORK).read_bytes() == (artefact / NETWORK).read_bytes()


def test_artefact_is_written_again_from_the_folder_of_its_run(artefact: Path, tmp_path: Path) -> None:
    (run,) = (artefact.parent / "runs").iterdir()

    again = export_run(run, tmp_path)

    assert again.name == artefact.name
    assert {file.name for file in again.iterdir()} == {file.name for file in artefact.iterdir()}
    assert (again / NETWORK).read_bytes() == (artefact / NETWORK).read_bytes()


def test_run_of_another_definition_is_not_exported(artefact: Path, tmp_path: Path) -> None:
    (run,) = (artefact.parent / "runs").iterdir()
    other = tmp_path / "other"
    other.mkdir()
    order = json.loads((run / ORDER).read_text())
    (other / ORDER).write_text(json.dumps({**order, "steps": STEPS + 1}))

    with pytest.raises(TrainingError, match="another record"):
        export_run(other, tmp_path)


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=ORDER):
        export_run(tmp_path, tmp_path)


def test_volume_is_scored_slice_by_slice_on_its_own_grid(artefact: Path) -> None:
    found = load_artefact(artefact)
    assert isinstance(found, PictureArtefact)
    predictor = PicturePredictor.load(found)
    rng = np.random.default_rng(1)
    # Stored with columns towards the right, rows towards the front and slices towards the feet.
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    affine[2, 0] = -5.0
    volume = Volume(
        voxels=rng.random((4, 60, 70), dtype=np.float32),
        spacing_mm=(5.0, 1.0, 1.0),
        affine=affine,
    )

    scores = predictor.predict(volume)

    assert scores.map.shape == volume.voxels.shape
    assert 0 < scores.p_value <= 1
    assert predictor.predict(volume).map.tobytes() == scores.map.tobytes()


def test_slices_become_a_study() -> None:
    scores = np.array([1.0, 4.0, 2.0, 3.0, 8.0, 6.0, 5.0, 7.0])

    assert join_slices(scores, "max") == 8.0
    assert join_slices(scores, "mean") == 4.5
    assert join_slices(scores, "top_quartile") == 7.5


def test_unknown_part_is_named(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "models/records/a1-ae-dense.yaml").read_text()
    path = tmp_path / "a1-ae-dense.yaml"
    path.write_text(text.replace("type: dense", "type: thick"))

    with pytest.raises(RecordError, match="neck"):
        read_method(path)


def test_empty_class_is_refused_before_training(folder: Path, tmp_path: Path) -> None:
    manifest = folder / "manifest.csv"
    kept = manifest.read_text()
    manifest.write_text("\n".join(line for line in kept.splitlines() if ",val,0," not in line) + "\n")
    try:
        with pytest.raises(DatasetError, match="no normal"):
            train_pictures("v5-cevae", folder, tmp_path, 1, steps=STEPS)
    finally:
        manifest.write_text(kept)
    assert not list(tmp_path.iterdir())


def test_losses_of_a_resumed_stage_are_whole(tmp_path: Path) -> None:
    record = read_method("a1-ae-dense")
    stage = record.stages[0].model_copy(update={"steps": 4, "batch": 2, "select_every": 0})
    record = record.model_copy(update={"stages": (stage,)})
    pool = Pool(pixels=torch.rand(4, 1, 64, 64), mask=torch.ones(4, 1, 64, 64), position=torch.zeros(4))

    first = train(record, pool, None, seed=1, run=Run(folder=tmp_path))
    again = train(record, pool, None, seed=1, run=Run(folder=tmp_path))

    assert len(first.losses[0]) == 4
    assert first.losses == again.losses


def test_model_of_heads_reads_no_liver() -> None:
    """What a folder's pictures show decides which series a model trained on it may score."""
    described = describe(Path("head-ct-2d"))

    assert "HEAD" in described.body_parts
    assert "LIVER" not in described.body_parts


def test_graph_of_two_channels_takes_any_batch(tmp_path: Path) -> None:
    """A batch as long as the channels was once taken for the same size and fixed."""
    record = read_method("b1-intensity")
    shape = Shape(2, 64, 64)
    head = Head(record, build_networks(record, shape, seed=1), shape).eval()

    export_head(head, tmp_path / "model.onnx")

    session = Session(tmp_path / "model.onnx", providers=("CPUExecutionProvider",))
    for n in (1, 2, 5):
        feeds = {
            "x": np.ones((n, 2, 64, 64), np.float32),
            "mask": np.ones((n, 1, 64, 64), np.float32),
            "position": np.zeros(n, np.float32),
        }
        assert session.run(feeds)["image_score"].shape == (n,)


@pytest.mark.long
def test_changed_data_starts_a_run_of_its_own(folder: Path, tmp_path: Path) -> None:
    train_pictures("x-template", folder, tmp_path, 1)
    manifest = folder / "manifest.csv"
    kept = manifest.read_text()
    manifest.write_text(kept.replace("0.png,p0,train", "0.png,p0,val"))
    try:
        train_pictures("x-template", folder, tmp_path, 1)
    finally:
        manifest.write_text(kept)

    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_diverged_training_ends_with_a_remedy() -> None:
    record = read_method("a1-ae-dense")
    pool = Pool(
        pixels=torch.full((4, 1, 64, 64), torch.inf),
        mask=torch.ones(4, 1, 64, 64),
        position=torch.zeros(4),
    )

    with pytest.raises(TrainingError, match="smaller rate"):
        train(record, pool, None, seed=1)
