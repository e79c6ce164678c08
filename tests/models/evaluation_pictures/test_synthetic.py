from pathlib import Path

from models.evaluation.picture_baselines import Scorer, constant
from models.evaluation.picture_rows import Rowing
from models.evaluation.rows import Row
from models.evaluation.synthetic import Sweeps, synthetic_rows
from models.images.collection import read_collection
from models.images.toys import INTENSITIES, SWEPT_RADII, categories

ROWING = Rowing(artefact="a", split="val", scorer="", seed=0, draws=10)


def _rows(folder: Path, scorer: Scorer, amount: Sweeps) -> list[Row]:
    return synthetic_rows(ROWING, read_collection(folder), {"": scorer, "constant": constant}, amount)


def test_every_category_and_every_step_of_a_sweep_has_a_row(lesion_folder: Path, by_maximum: Scorer) -> None:
    rows = _rows(lesion_folder, by_maximum, Sweeps(studies=2))
    found = {row.finding for row in rows if row.metric == "synthetic_ap"}
    known = categories(read_collection(lesion_folder))

    assert {finding.partition(": ")[2] for finding in found if ": " in finding} == set(known)
    assert {f"intensity={value:g}" for value in INTENSITIES} <= found
    assert {f"radius={value:g}" for value in SWEPT_RADII} <= found
    assert {row.n for row in rows if row.metric == "synthetic_ap"} == {4}  # Two corrupted, two as they are.


def test_a_constant_has_the_precision_of_chance(lesion_folder: Path, by_maximum: Scorer) -> None:
    rows = _rows(lesion_folder, by_maximum, Sweeps(studies=2, with_sweeps=False))
    by_place = {(row.finding, row.metric): row.value for row in rows}

    assert by_place["local: sphere", "synthetic_ap:constant"] == 0.5
    assert by_place["local: sphere", "synthetic_prevalence"] == 0.5
    assert by_place["local: sphere", "synthetic_pixel_ap:constant"] < 0.2
    assert ("global: variant", "synthetic_pixel_ap") not in by_place


def test_brightness_sees_bright_spheres_and_not_dark_ones(lesion_folder: Path, by_maximum: Scorer) -> None:
    rows = _rows(lesion_folder, by_maximum, Sweeps(studies=4))
    pixels = {row.finding: row.value for row in rows if row.metric == "synthetic_pixel_ap"}

    assert pixels["intensity=1"] > 0.5 > pixels["intensity=0.05"]


def test_only_slices_of_the_part_are_changed(stack_folder: Path, by_maximum: Scorer) -> None:
    rows = _rows(stack_folder, by_maximum, Sweeps(stacks=1, with_sweeps=False))

    # The patient of part val has five slices: one is empty and one has the tumour.
    assert {row.n for row in rows if row.metric == "synthetic_ap"} == {2 * 3}
