import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

from models.aggregation import core
from models.artefact import CARD, Artefact
from models.catalogue import active_artefact
from models.errors import Reason, RecordError
from models.evaluation import dataset, protocol, report
from models.evaluation.baselines import PrincipalComponents, intensity_map, keep_core
from models.evaluation.dataset import read_data_record, read_nifti
from models.evaluation.rows import Row, markdown_table
from models.preprocess import prepare
from models.volume import Volume

Brain = Callable[..., Volume]


def write_nifti(volume: Volume, path: Path) -> None:
    affine = dataset.RAS_TO_LPS @ volume.affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(volume.voxels.transpose(2, 1, 0).astype(np.uint16), affine), path)


@pytest.fixture
def folder(tmp_path: Path, brain: Brain, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with one person to train on, one held apart and one that must be refused."""
    data = tmp_path / "phantoms"
    data.mkdir()
    write_nifti(brain(), data / "one.nii")
    write_nifti(brain(bright_mm=(20, -30, 30)), data / "two.nii")
    record = {
        "name": "phantoms",
        "description": "phantoms",
        "modality": "MR",
        "licence": "none",
        "citation": "none",
        "source": "made here",
        "drawn": "by hand",
        "group": "phantoms",
        "roles": {"train": "a", "test": "b", "not_assessable": "c"},
        "volumes": [
            {"file": "one.nii", "subject": "a", "role": "train"},
            {"file": "two.nii", "subject": "b", "role": "test"},
            {"file": "zero.nii", "subject": "c", "role": "not_assessable", "reason": "constant_pixels"},
        ],
    }
    write_nifti(
        Volume(voxels=np.zeros((30, 30, 30), np.float32), spacing_mm=(2, 2, 2), affine=np.eye(4)),
        data / "zero.nii",
    )
    (tmp_path / "phantoms.yaml").write_text(yaml.safe_dump(record))
    monkeypatch.setattr(dataset, "RECORDS", tmp_path)
    return data


def test_nifti_comes_back_on_its_grid(brain: Brain, tmp_path: Path) -> None:
    volume = brain(spacing_mm=(2.0, 1.5, 1.2))
    write_nifti(volume, tmp_path / "volume.nii")

    found = read_nifti(tmp_path / "volume.nii")

    assert np.allclose(found.affine, volume.affine, atol=1e-4)
    assert found.spacing_mm == pytest.approx(volume.spacing_mm, abs=1e-5)
    assert np.allclose(found.voxels, volume.voxels, atol=1)


def test_split_of_the_shipped_data_keeps_people_apart() -> None:
    record = read_data_record(Path("brain-mri-t1"))
    parts = ("train", "selection", "calibration", "test")
    people = [{entry.subject for entry in record.of_role(part)} for part in parts]

    assert [len(part) for part in people] == [19, 6, 6, 6]
    assert len(set.union(*people)) == 37
    assert {entry.reason for entry in record.of_role("not_assessable")} == {Reason.NOT_SKULL_STRIPPED}


def test_folder_without_description_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"write models/records/data/.*\.yaml"):
        read_data_record(tmp_path)


def test_person_in_two_parts_is_refused(folder: Path) -> None:
    path = folder.parent / "phantoms.yaml"
    content = yaml.safe_load(path.read_text())
    content["volumes"][1]["subject"] = "a"
    path.write_text(yaml.safe_dump(content))

    with pytest.raises(RecordError, match="two parts"):
        read_data_record(folder)


@pytest.mark.long
def test_evaluation_repeats_with_its_seed_and_has_every_column(folder: Path, tmp_path: Path) -> None:
    artefact = active_artefact()

    def measure() -> dict[str, object]:
        return protocol.evaluate(
            [artefact.path], folder, 3, lesions=1, diameters_mm=(30.0,), contrasts_sd=(2.0,)
        )

    result = measure()

    assert json.dumps(result) == json.dumps(measure())
    assert (result["data"], result["model_hash"], result["seed"]) == ("phantoms", artefact.sha256, 3)
    rows = report.rows_of(result)
    metrics = {row.metric for row in rows if row.finding == "synthetic 30 mm +2 SD"}
    assert {
        "sample_auroc",
        "sample_auroc:pca",
        "sample_auroc:intensity",
        "pixel_ap",
        "pixel_ap:trivial",
    } <= metrics
    assert {row.metric: row.value for row in rows}["sample_auroc:trivial"] == 0.5
    assert {row.metric: row.value for row in rows}["refused"] == 1.0
    assert {row.split for row in rows} == {"test", "not_assessable"}
    shares = {row.metric: row for row in rows if row.finding == "normal" and row.metric != "mean_percentile"}
    assert set(shares) == {"at_lowest", "highlighted"}
    assert all(row.n == 1 and row.low is not None and row.value in (0.0, 1.0) for row in shares.values())
    (table,) = result["scores"]  # type: ignore[misc, attr-defined]
    assert (table["finding"], sorted(table["labels"])) == ("synthetic 30 mm +2 SD", [0, 1])
    assert table["scores"] == sorted(table["scores"])
    page = report.write_report(result, tmp_path / "report").read_text()
    assert "synthetic 30 mm +2 SD" in page
    assert artefact.sha256 in page


def test_lesions_differ_between_people_and_places_but_not_between_runs() -> None:
    seeds = {
        protocol.lesion_seed(1, person, size, contrast, number)
        for person in "abc"
        for size in (10.0, 20.0)
        for contrast in (-1.0, 1.0)
        for number in range(3)
    }
    assert len(seeds) == 3 * 2 * 2 * 3
    assert protocol.lesion_seed(1, "a", 10.0, 1.0, 0) == protocol.lesion_seed(1, "a", 10.0, 1.0, 0)


def test_principal_components_explain_what_they_were_fitted_on(brain: Brain) -> None:
    contract = active_artefact().manifest.input
    seen = prepare(brain(), contract)
    other = prepare(brain(bright_mm=(20, -30, 30)), contract)
    components = PrincipalComponents([seen, seen])

    assert components.residual_map(seen).max() < components.residual_map(other).max()


def test_intensity_baseline_points_at_the_tail_it_is_asked_for(brain: Brain) -> None:
    prepared = prepare(brain(bright_mm=(20, -30, 30)), active_artefact().manifest.input)
    bright = np.unravel_index(np.argmax(intensity_map(prepared, 1)), prepared.voxels.shape)
    dark = np.unravel_index(np.argmax(intensity_map(prepared, -1) * prepared.mask), prepared.voxels.shape)

    place = prepared.affine[:3, :3] @ np.array(bright) + prepared.affine[:3, 3]
    assert np.linalg.norm(place - [20, -30, 30]) < 6
    assert prepared.voxels[dark] < prepared.voxels[bright]


def test_baseline_is_measured_where_the_model_is(brain: Brain) -> None:
    prepared = prepare(brain(), active_artefact().manifest.input)
    inside = core(prepared, 4.0)
    values = intensity_map(prepared, -1)
    kept = keep_core(values, inside)

    assert values[prepared.mask & ~inside].max() > values[inside].min()
    assert kept[~inside].max() == 0
    assert np.allclose(kept[inside], values[inside] - values[inside].min(), atol=1e-6)


def test_card_takes_numbers_without_changing_the_identity(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(active_artefact().path, tmp_path / "copied"))
    before = Artefact.load(folder).sha256
    row = Row(
        artefact="a",
        split="test",
        finding="synthetic 20 mm +2 SD",
        metric="sample_auroc",
        value=0.875,
        low=0.75,
        high=1.0,
        n=18,
    )
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"data": "brain-mri-t1", "rows": [row.as_dict()]}))

    report.main([str(folder), str(path)])

    assert Artefact.load(folder).sha256 == before
    assert "0.88 (0.75 to 1.00)" in (folder / CARD).read_text()
    assert "not for clinical use" in (folder / CARD).read_text()


def test_table_leaves_a_gap_where_nothing_was_measured() -> None:
    def row(finding: str, metric: str) -> Row:
        return Row(
            artefact="a", split="test", finding=finding, metric=metric, value=0.5, low=None, high=None, n=1
        )

    table = markdown_table([row("a", "sample_auroc"), row("b", "pixel_ap")])

    assert "| a | 1 | 0.50 |  |" in table
    assert "| b | 1 |  | 0.50 |" in table


def test_card_says_how_often_normals_alarm_and_how_to_repeat_all_of_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(active_artefact().path, tmp_path / "copied"))

    def write(data: str, seed: int, *measured: tuple[str, str, str, float]) -> str:
        rows = [
            Row(
                artefact=f"brain-t1-0.1.0 seed {seed}",
                split=split,
                finding=finding,
                metric=metric,
                value=value,
                low=0.1 if metric == "at_lowest" else None,
                high=0.7 if metric == "at_lowest" else None,
                n=6,
            ).as_dict()
            for split, finding, metric, value in measured
        ]
        path = tmp_path / f"{data}-{seed}.json"
        path.write_text(json.dumps({"data": data, "rows": rows}))
        return str(path)

    own = write(
        "brain-mri-t1",
        1,
        ("test", "a", "sample_auroc", 0.5),
        ("test", "normal", "mean_percentile", 33.3),
        ("selection", "normal", "mean_percentile", 59.5),
        ("test", "normal", "at_lowest", 1 / 3),
    )
    other = write("brain-mri-ms", 1, ("test", "b", "mean_percentile", 14.3))
    second = write("brain-mri-t1", 2, ("test", "a", "sample_auroc", 0.75))

    report.main([str(folder), own, other, "--spread", second])

    card = (folder / CARD).read_text()
    words = " ".join(card.split())
    assert "2 of 6 at the lowest percentile (Wilson 95 % interval 10 to 70 %)" in words
    assert "would have 57.1" in words  # Mean of 1/7 to 7/7 in equal shares.
    assert "normal, selection" in words
    assert "a: 0.50, 0.75" in words
    commands = card[card.index("## Run it again") :]
    assert commands.count("vigil models train") == 2
    assert commands.count("vigil models evaluate") == 3
    assert "--data brain-mri-ms" in commands
    Artefact.load(folder)
