from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from models.evaluation.picture_rows import Rowing, rows_of_part
from models.evaluation.rows import Row
from models.evaluation.scoring import Scored
from models.images.picture import Picture

MakePicture = Callable[..., Picture]
ROWING = Rowing(artefact="a", split="val", scorer="", seed=0, draws=50)


def _stack(make_picture: MakePicture, scores: np.ndarray, labels: np.ndarray) -> Scored:
    """Two patients' stacks; the map of an abnormal slice is bright in its lesion."""
    rng = np.random.default_rng(0)
    pictures, maps = [], []
    for i, label in enumerate(labels):
        lesion = np.zeros((12, 12), dtype=np.bool_)
        lesion[2:6, 2:6] = bool(label)
        position = (i % 10) / 9
        pictures.append(
            make_picture(
                np.zeros((12, 12)),
                study=f"s{i // 10}",
                patient=f"p{i // 10}",
                index=i % 10,
                label=int(label),
                finding="mass" if label else "",
                lesion=lesion,
                covariates={"slice_position": position, "sharpness": rng.random(), "contrast": rng.random()},
            )
        )
        maps.append((0.1 * rng.random((12, 12)) + lesion).astype(np.float32))
    return Scored(
        pictures=tuple(pictures), scores=scores, maps=tuple(maps), studies={"s0": 1.0, "s1": 0.0}, seconds=2.0
    )


def _values(rows: list[Row], finding: str) -> dict[str, float]:
    return {row.metric: row.value for row in rows if row.finding == finding}


def test_rows_of_stacks_are_those_of_scikit_learn(make_picture: MakePicture) -> None:
    rng = np.random.default_rng(5)
    labels = np.zeros(20, dtype=int)
    labels[[3, 4, 5]] = 1  # The first patient; the second is normal.
    scores = rng.random(20) + 0.5 * labels
    scored = _stack(make_picture, scores, labels)

    rows = rows_of_part(ROWING, scored, None, {"mass": ("mass",)})
    found = _values(rows, "mass")

    central = np.array([0.3 <= (i % 10) / 9 <= 0.8 for i in range(20)])
    assert found["slice_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["slice_auroc_central"] == pytest.approx(roc_auc_score(labels[central], scores[central]))
    assert found["slice_ap"] == pytest.approx(average_precision_score(labels, scores))
    assert found["prevalence"] == 3 / 20
    assert found["study_auroc"] == 1
    assert found["pixel_ap"] == pytest.approx(1)  # Every lesion pixel is above every other.
    assert found["pixel_dice_best"] == pytest.approx(1)
    assert found["pixel_prevalence"] == pytest.approx(3 * 16 / (20 * 144))
    assert _values(rows, "")["seconds_per_study"] == 2
    by_metric = {row.metric: row for row in rows}
    assert by_metric["slice_auroc"].n == 20
    assert by_metric["pixel_ap"].n == 2


def test_threshold_of_maps_comes_from_normals_kept_aside_else_from_the_artefact(
    make_picture: MakePicture,
) -> None:
    labels = np.zeros(20, dtype=int)
    labels[[3, 4, 5]] = 1
    scored = _stack(make_picture, labels + 0.0, labels)
    aside = _stack(make_picture, np.zeros(20), np.zeros(20, dtype=int))

    found = _values(rows_of_part(ROWING, scored, aside, {"mass": ("mass",)}), "mass")
    banded = _values(rows_of_part(ROWING, scored, None, {"mass": ("mass",)}, 0.5), "mass")

    # 48 lesion pixels; 2 % of about 2800 others are flagged too.
    assert found["pixel_dice"] == pytest.approx(2 * 48 / (48 + 48 + 0.02 * 2832), abs=0.06)
    assert found["pixel_fpr"] == pytest.approx(0.02, abs=0.01)
    assert banded["pixel_dice"] == 1
    assert banded["pixel_fpr"] == 0
    assert (banded["objects_found_per_scan"], banded["objects_missed_per_scan"]) == (0.5, 0)
    assert banded["objects_false_per_normal_scan"] == 0
    assert "pixel_dice" not in _values(rows_of_part(ROWING, scored, None, {"mass": ("mass",)}), "mass")


def test_operating_point_comes_from_normals_kept_aside(make_picture: MakePicture) -> None:
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    pictures = tuple(
        make_picture(np.zeros((4, 4)), study=f"s{i}", patient=f"p{i}", label=int(label), finding="x" * label)
        for i, label in enumerate(labels)
    )
    scores = np.array([120.0, 110, 99, 50, 200, 40, 30, 20])
    aside = np.arange(1.0, 101)
    kept = Scored(pictures=pictures, scores=aside, maps=None, studies={}, seconds=0)
    scored = Scored(pictures=pictures, scores=scores, maps=None, studies={}, seconds=0)

    found = _values(rows_of_part(ROWING, scored, kept, {"x": ("x",)}), "x")

    # Five of 101 may be at or above: what beats 96 is flagged, three of four and one of four normals.
    assert (found["sensitivity"], found["specificity"]) == (3 / 4, 3 / 4)
    assert found["f1_at_normals_95"] == 3 / 4
    assert found["image_auroc"] == pytest.approx(12 / 16)
    assert "pixel_ap" not in found


def test_findings_are_counted_apart(make_picture: MakePicture) -> None:
    names = ["", "", "mild", "severe"]
    pictures = tuple(
        make_picture(np.zeros((4, 4)), study=f"s{i}", patient=f"p{i}", label=int(bool(name)), finding=name)
        for i, name in enumerate(names)
    )
    scored = Scored(pictures=pictures, scores=np.array([1.0, 2, 1.5, 3]), maps=None, studies={}, seconds=0)
    rows = rows_of_part(ROWING, scored, None, {"any": ("mild", "severe"), "severe+": ("severe",)})

    assert _values(rows, "any")["image_auroc"] == 3 / 4
    assert _values(rows, "severe+")["image_auroc"] == 1
    assert next(row.n for row in rows if row.finding == "severe+") == 3


def test_a_shortcut_is_turned_towards_the_abnormal(make_picture: MakePicture) -> None:
    pictures = tuple(
        make_picture(np.zeros((4, 4)), study=f"s{i}", patient=f"p{i}", label=i % 2, finding="x" * (i % 2))
        for i in range(4)
    )
    scored = Scored(pictures=pictures, scores=np.array([3.0, 1, 4, 2]), maps=None, studies={}, seconds=0)
    of_sharpness = Rowing(artefact="a", split="val", scorer="sharpness", seed=0, draws=10)

    found = _values(rows_of_part(of_sharpness, scored, None, {"x": ("x",)}), "x")

    assert found["image_auroc:sharpness"] == 1
