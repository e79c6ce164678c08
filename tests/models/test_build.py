"""From a record and a folder of volumes to an artefact that scores, on a coarse grid."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

pytest.importorskip("torch", reason="torch is installed for making models alone")

from models.artefact import CALIBRATION, Artefact
from models.calibration import read_calibration
from models.catalogue import active_artefact
from models.errors import RecordError
from models.evaluation import dataset
from models.evaluation.dataset import read_data_record, read_nifti
from models.making import train_artefact
from models.predictor import Predictor
from models.volume import Volume

Brain = Callable[..., Volume]
RECORD = Path(__file__).parents[2] / "models" / "records" / "cevae-t1.yaml"
PARTS = {"train": 5, "selection": 2, "calibration": 2}
PLAN = {"steps": 4, "batch": 4, "rate": 1e-3, "refresh": 2, "select_every": 2}


@pytest.fixture
def archive(tmp_path: Path, brain: Brain, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nine phantoms with noise of their own, described as a data folder."""
    folder = tmp_path / "archive"
    folder.mkdir()
    rng = np.random.default_rng(0)
    volume = brain(spacing_mm=(4.0, 4.0, 4.0))
    affine = dataset.RAS_TO_LPS @ volume.affine[:, [2, 1, 0, 3]]
    entries = []
    for role, count in PARTS.items():
        for number in range(count):
            name = f"{role}-{number}.nii"
            noise = rng.normal(0, 6, volume.voxels.shape) * (volume.voxels > 0)
            voxels = np.clip(volume.voxels + noise, 0, 255).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(voxels.transpose(2, 1, 0), affine), folder / name)
            entries.append({"file": name, "subject": name, "role": role})
    described = {
        "name": "archive",
        "description": "phantoms",
        "modality": "MR",
        "licence": "none",
        "citation": "none",
        "source": "made here",
        "drawn": "by hand",
        "group": "phantoms",
        "roles": dict.fromkeys((*PARTS, "test"), ""),
        "volumes": entries,
    }
    (tmp_path / "archive.yaml").write_text(yaml.safe_dump(described))
    monkeypatch.setattr(dataset, "RECORDS", tmp_path)
    return folder


@pytest.fixture
def coarse_record(tmp_path: Path) -> Path:
    """The shipped record on a 4 mm grid with a few steps."""
    content = yaml.safe_load(RECORD.read_text())
    content["input"] |= {"shape": [40, 48, 48], "spacing_mm": 4.0, "top_slice": 38}
    content["applicability"]["max_spacing_mm"] = 4.5
    content["cevae"] |= {"channels": [4, 8, 8, 8], "latent": 8, "train": PLAN}
    content["denoiser"] |= {"channels": [8, 8, 8], "train": PLAN}
    path = tmp_path / "coarse.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_record_and_data_become_an_artefact_that_scores_and_repeats(
    archive: Path, coarse_record: Path, tmp_path: Path, brain: Brain
) -> None:
    lines: list[str] = []

    first = train_artefact(coarse_record, archive, tmp_path / "first", 3, lines.append)
    second = train_artefact(coarse_record, archive, tmp_path / "second", 3)

    artefact = Artefact.load(first)
    assert artefact.sha256 == Artefact.load(second).sha256
    assert artefact.manifest.training.subjects["train"] == PARTS["train"]
    predictor = Predictor.load(artefact)
    again = [predictor.score(read_nifti(archive / f"calibration-{number}.nii")) for number in range(2)]
    stored = read_calibration(artefact.path / CALIBRATION).scores
    assert sorted(outcome.study_score for outcome in again) == pytest.approx(stored, abs=1e-9)
    scores = predictor.predict(brain(spacing_mm=(4.0, 4.0, 4.0)))
    assert scores.model.n == PARTS["calibration"]
    assert np.isfinite(scores.study_score)
    assert any("ceVAE" in line for line in lines)
    assert any("denoiser" in line for line in lines)


def test_shipped_calibration_is_what_its_people_score(test_data: Path) -> None:
    artefact = active_artefact()
    predictor = Predictor.load(artefact)
    folder = test_data / "brain-mri-t1"
    people = read_data_record(folder).of_role("calibration")

    found = sorted(predictor.score(read_nifti(folder / entry.file)).study_score for entry in people)

    # Another processor may round the network's sums differently; the rounded statistics move scores by 8e-5.
    assert found == pytest.approx(read_calibration(artefact.path / CALIBRATION).scores, rel=2e-5)


def test_too_few_volumes_are_refused_before_training(
    archive: Path, coarse_record: Path, tmp_path: Path
) -> None:
    path = tmp_path / "archive.yaml"
    content = yaml.safe_load(path.read_text())
    content["volumes"] = [entry for entry in content["volumes"] if entry["role"] != "calibration"]
    path.write_text(yaml.safe_dump(content))

    with pytest.raises(RecordError, match="role calibration, at least 2"):
        train_artefact(coarse_record, archive, tmp_path / "out", 1)
