"""From a folder of reference studies to a document, and from a document to a study's percentile."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from typer.testing import CliRunner

from models.artefact import load_artefact
from models.documents import SiteCalibration, read_document
from models.errors import DatasetError, Reason
from models.predictor import AnyPredictor, load_predictor
from service.cli import app
from service.selection import judge
from tests.phantoms import Phantom, mr_image, set_pixels, write
from tests.picture_models import write_artefact

runner = CliRunner()
STUDIES = 25
MADE = ["--author", "a physicist", "--reason", "commissioning", "--site", "north", "--least", "20"]


def study_of(
    number: int, *, maker: str = "Phantom maker", age: str = "050Y", width: float = 1.0
) -> list[FileDataset]:
    """A stack of noise, no two alike; `width` of its pixels in millimetres."""
    phantom = Phantom(name=f"person-{number}", spacing_mm=(3.0, width, width))
    datasets = phantom.datasets()
    pixels = np.random.default_rng(number).integers(50, 1000, size=phantom.shape, dtype=np.uint16)
    for dataset, plane in zip(datasets, pixels, strict=True):
        set_pixels(dataset, plane)
        dataset.Manufacturer, dataset.PatientAge = maker, age
    return datasets


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artefact(tmp_path_factory.mktemp("artefact") / "grey")


@pytest.fixture(scope="module")
def predictor(artefact: Path) -> AnyPredictor:
    return load_predictor(load_artefact(artefact), providers=("CPUExecutionProvider",))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies of many people, a second one of one of them, one that is no volume, and no DICOM."""
    folder = tmp_path_factory.mktemp("normals")
    for number in range(STUDIES):
        write(folder / f"{number:03d}", study_of(number, age="050Y" if number else "070Y"))
    again = study_of(500)
    for dataset in again:
        dataset.PatientID = "PH-person-3"
    write(folder / "again", again)
    write(folder / "single", [mr_image("single", 0, np.ones((8, 8), np.uint16))])
    (folder / "notes.txt").write_text("no DICOM")
    return folder


@pytest.fixture(scope="module")
def made(
    artefact: Path, reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    path = tmp_path_factory.mktemp("documents") / "calibration-1.json"
    told = runner.invoke(
        app,
        [
            "models",
            "calibrate",
            str(reference),
            "--out",
            str(path),
            "--artefact",
            str(artefact),
            "--json",
            *MADE,
        ],
        catch_exceptions=False,
    )
    assert told.exit_code == 0, told.output
    return path, json.loads(told.stdout)


def calibrated(made: tuple[Path, dict[str, object]], site: str = "north") -> SiteCalibration:
    return SiteCalibration(document=read_document(made[0]), site=site)


def test_a_folder_becomes_groups_one_study_a_person(made: tuple[Path, dict[str, object]]) -> None:
    _, told = made

    assert told["groups"] == [
        {"group": "MR, T1, PHANTOM, 40-59 years, north", "n": STUDIES - 1},
        {"group": "MR, T1, PHANTOM, 60-79 years, north", "n": 1},
    ]
    assert told["left_out"] == {"same_person": 1, "no_geometry": 1, "unreadable": 1}


def test_the_document_says_who_made_it_why_and_for_which_model(
    made: tuple[Path, dict[str, object]], predictor: AnyPredictor
) -> None:
    document = read_document(made[0])

    assert (document.author, document.reason, document.version) == ("a physicist", "commissioning", 1)
    assert document.model_sha256 == predictor.identity.sha256
    assert document.sha256 == made[1]["sha256"]
    assert b"person" not in made[0].read_bytes()
    assert all(len(stratum.maxima) == len(stratum.scores) for stratum in document.strata)


def test_a_study_is_compared_with_its_own_group(
    made: tuple[Path, dict[str, object]], predictor: AnyPredictor, tmp_path: Path
) -> None:
    paths = write(tmp_path, study_of(77))

    scores = judge(paths, predictor, max_voxels=1 << 20, calibrated=calibrated(made)).scores

    assert scores is not None
    assert (scores.model.group, scores.model.n) == ("MR, T1, PHANTOM, 40-59 years, north", STUDIES - 1)
    assert scores.model.calibration_sha256 == made[1]["sha256"]
    assert scores.model.sha256 == predictor.identity.sha256
    document = read_document(made[0])
    assert scores.p_value == pytest.approx(
        (1 + sum(value >= scores.study_score for value in document.strata[0].scores)) / STUDIES
    )


def test_a_group_of_one_speaks_through_a_wider_one_and_says_so(
    made: tuple[Path, dict[str, object]], predictor: AnyPredictor, tmp_path: Path
) -> None:
    paths = write(tmp_path, study_of(78, age="070Y"))

    scores = judge(paths, predictor, max_voxels=1 << 20, calibrated=calibrated(made)).scores

    assert scores is not None
    assert scores.model.n == STUDIES
    assert "wider than the study's own" in scores.model.group


def test_images_unlike_those_of_the_reference_are_not_assessable(
    made: tuple[Path, dict[str, object]], predictor: AnyPredictor, tmp_path: Path
) -> None:
    paths = write(tmp_path, study_of(79, width=4.0))

    verdict = judge(paths, predictor, max_voxels=1 << 20, calibrated=calibrated(made))

    assert verdict.reason is Reason.UNLIKE_TRAINING
    assert verdict.scores is None
    assert judge(paths, predictor, max_voxels=1 << 20).scores is not None


def test_a_scanner_that_was_not_commissioned_is_not_calibrated(
    artefact: Path, reference: Path, predictor: AnyPredictor, tmp_path: Path
) -> None:
    path = tmp_path / "strict.json"
    arguments = ["models", "calibrate", str(reference), "--out", str(path), "--artefact", str(artefact)]
    told = runner.invoke(app, [*arguments, "--by-scanner", *MADE], catch_exceptions=False)
    assert told.exit_code == 0
    assert "left out: no_geometry 1, same_person 1, unreadable 1" in told.stdout
    paths = write(tmp_path / "study", study_of(80, maker="Another maker"))
    strict = SiteCalibration(document=read_document(path), site="north")

    verdict = judge(paths, predictor, max_voxels=1 << 20, calibrated=strict)

    assert verdict.reason is Reason.UNCALIBRATED
    assert "ANOTHER" in verdict.detail


def test_a_document_is_followed_and_never_overwritten(
    made: tuple[Path, dict[str, object]], artefact: Path, reference: Path, tmp_path: Path
) -> None:
    arguments = ["models", "calibrate", str(reference), "--artefact", str(artefact), *MADE, "--out"]

    again = runner.invoke(app, [*arguments, str(made[0])])
    assert isinstance(again.exception, DatasetError)
    assert "never changed" in str(again.exception)

    path = tmp_path / "calibration-2.json"
    assert runner.invoke(app, [*arguments, str(path), "--replaces", str(made[0])]).exit_code == 0
    assert (read_document(path).version, read_document(path).replaces) == (2, made[1]["sha256"])


def test_a_folder_without_a_study_that_can_be_scored_makes_no_document(
    artefact: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("no DICOM")
    arguments = ["models", "calibrate", str(tmp_path / "folder"), "--artefact", str(artefact), *MADE]

    told = runner.invoke(app, [*arguments, "--out", str(tmp_path / "made.json")])

    assert "unreadable 1" in str(told.exception)
    assert not (tmp_path / "made.json").exists()


def test_coverage_is_shown_for_simulated_groups() -> None:
    told = runner.invoke(app, ["models", "coverage", "--json"])

    rows = json.loads(told.stdout)["rows"]
    assert told.exit_code == 0
    assert [row["alpha"] for row in rows] == [0.01, 0.05, 0.1, 0.2]
    assert all(row["holds"] for row in rows)
    lists = json.loads(told.stdout)["lists"]
    assert lists["rate"] <= lists["q"]


@pytest.mark.slow
def test_coverage_is_shown_for_real_pictures(test_data: Path) -> None:
    arguments = ["models", "coverage", "--data", str(test_data / "fashion-mnist"), "--task", "boots"]

    told = runner.invoke(app, arguments, env={"COLUMNS": "200"})

    assert told.exit_code == 0
    assert told.stdout.count("holds") == 4 + 2 * 4 + 1
