import csv
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from models.errors import TrainingError
from models.images.collection import read_collection
from models.images.description import describe
from service import nifti, teaching
from service.store.maps import Curve, StoredMap
from service.store.objects import Unchecked
from service.store.verdicts import Judged, Taught
from service.study import Conspicuity, Verdict
from service.teaching import Images, NotEmptyError, people_of, split_of
from tests.seeds import study_key

SHAPE = (4, 32, 32)
HOT = ((1, 10, 10), (2, 24, 20))  # Where the map stands out, in voxels.
AFFINE = np.array([[0, 0, 2.0, -31], [0, 2.0, 0, -30], [3.0, 0, 0, 5], [0, 0, 0, 1]])
RECORD = Path(__file__).resolve().parents[2] / "docs" / "readers.md"


def taught(name: str, verdict: Verdict, **changes: object) -> Taught:
    values: dict[str, object] = {
        "key": study_key(name),
        "judged": Judged(
            verdict=verdict,
            conspicuity=Conspicuity.C2 if verdict is Verdict.CONFIRMED_FINDING else None,
            percentile=1.0,
            model="m 1",
            group="g",
            is_disputed=False,
        ),
        "score_id": 1,
        "scored_series": name,
        "region": None,
        "slice_index": None,
        "regions": (),
        "study_score": 2.0,
        "model_hash": "a" * 64,
        "calibration_hash": "b" * 64,
        "map": None,
        "patients": frozenset({f"{name}.."}),
        "instances": {"0.dcm": "c" * 64},
    }
    return Taught(**{**values, **changes})  # type: ignore[arg-type]


def heat() -> np.ndarray:  # type: ignore[type-arg]
    values = np.zeros(SHAPE, dtype=np.float32)
    for place in HOT:
        values[place] = 1
    return ndimage.maximum_filter(values, size=(1, 5, 5)) * np.float32(0.8)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Textured discs, and one map with two hot spots."""
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "map").write_bytes(b"".join(nifti.of_map(heat(), AFFINE)))

    def volume(_: int, series: str) -> Iterable[bytes]:
        rng = np.random.default_rng(sum(series.encode()))
        rows, columns = np.indices(SHAPE[1:]) - 15.5
        disc = np.hypot(rows, columns) < 14
        voxels = disc * (600 + rng.normal(0, 60, SHAPE)) + 600 * (heat() > 0.5)
        return nifti.of_voxels(voxels.astype(np.float32), AFFINE)

    return Images(volume=volume, objects=Unchecked(tmp_path / "objects"))


def stored_map() -> StoredMap:
    curve = Curve(peaks=(0.0, 0.8, 0.8, 0.0), bands=(0.5, 0.6, 0.7))
    return StoredMap(path="map", sha256="", bytes=0, voxels=int(np.prod(SHAPE)), curve=curve)


def test_a_person_is_who_states_the_same_id_or_the_same_name_and_birth_date() -> None:
    found = people_of(
        [
            taught("a", Verdict.ARTEFACT, patients=frozenset({"7.1970.doe"})),
            taught("b", Verdict.ARTEFACT, patients=frozenset({"8.1970.doe"})),
            taught("c", Verdict.ARTEFACT, patients=frozenset({"8..other"})),
            taught("d", Verdict.ARTEFACT, patients=frozenset({".1970."})),
            taught("e", Verdict.ARTEFACT, patients=frozenset()),
            taught("f", Verdict.ARTEFACT, patients=frozenset()),
        ]
    )
    a, b, c, d, e, f = (found[study_key(name)] for name in "abcdef")
    assert a == b == c
    assert len({a, d, e, f}) == 4


def test_nobody_crosses_the_split_and_a_fifth_is_kept_for_tests() -> None:
    people = [f"{number:016x}" for number in range(4000)]
    assert 0.18 < sum(split_of(person) == "test" for person in people) / 4000 < 0.22
    assert [split_of(person) for person in people] == [split_of(person) for person in people]


def test_what_is_written_names_nobody_and_says_why_a_study_is_left_out(
    tmp_path: Path, images: Images
) -> None:
    out = tmp_path / "out"
    disputed = taught("d", Verdict.FALSE_ALARM)
    taken = teaching.export(
        [
            taught("a", Verdict.CONFIRMED_FINDING, map=stored_map()),
            taught("b", Verdict.FALSE_ALARM, map=stored_map()),
            taught("c", Verdict.EXTRACTION_FAILURE),
            taught("d", Verdict.FALSE_ALARM, judged=replace(disputed.judged, is_disputed=True)),
            taught("e", Verdict.FALSE_ALARM, score_id=None),
        ],
        out,
        images=images,
    )

    assert (taken.studies, taken.volumes, taken.pseudo_labels) == (5, 2, 1)
    assert taken.left_out == {"no_label": 1, "disputed": 1, "no_images": 1}
    lines = [json.loads(line) for line in (out / teaching.FEEDBACK).read_text().splitlines()]
    assert lines[0]["verdict"] == "confirmed_finding"
    assert lines[0]["instances"] == {"0.dcm": "c" * 64}
    assert not {"note", "by", "patients"} & set(lines[0])
    with (out / "manifest.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert [row["label"] for row in rows.values()] == ["1", "0"]
    assert rows[f"{study_key('b')}.nii.gz"]["lesion"] == ""
    mask = np.asarray(nibabel.load(out / rows[f"{study_key('a')}.nii.gz"]["lesion"]).dataobj)
    assert (mask.T > 0).sum() == (heat() > 0.5).sum()
    with pytest.raises(NotEmptyError):
        teaching.export([], out)


def test_where_a_reader_pointed_at_one_region_the_other_is_no_label(tmp_path: Path, images: Images) -> None:
    centre = (AFFINE @ [*HOT[1], 1])[:3]  # LPS
    one = taught(
        "a",
        Verdict.CONFIRMED_FINDING,
        map=stored_map(),
        region=1,
        regions=({"centre_mm": [0, 0, 0]}, {"centre_mm": list(centre)}),
    )
    teaching.export([one], tmp_path / "out", images=images)
    mask = np.asarray(nibabel.load(tmp_path / "out" / f"{study_key('a')}-finding.nii.gz").dataobj).T > 0
    assert mask[HOT[1]]
    assert not mask[HOT[0]]


@pytest.fixture
def exported(tmp_path: Path, images: Images) -> Path:
    """Eight people without and four with a finding."""
    folder = tmp_path / "export"
    normals = [taught(f"n{number}", Verdict.FALSE_ALARM) for number in range(8)]
    findings = [taught(f"f{number}", Verdict.CONFIRMED_FINDING, map=stored_map()) for number in range(4)]
    teaching.export([*normals, *findings], folder, images=images)
    return folder


def test_the_training_tools_read_an_export_and_keep_people_apart(exported: Path) -> None:
    collection = read_collection(exported)
    sides: dict[str, set[str]] = {}
    for picture in collection.pictures:
        sides.setdefault(picture.patient, set()).add(picture.split)
    assert all(len(found) == 1 for found in sides.values())
    assert {picture.label for picture in collection.of_split("train")} == {0, 1}


def test_a_training_learns_from_the_pseudo_labels_of_an_export(exported: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from models.making.material import gather
    from models.making.record import read_method
    from models.making.training import train

    written = re.search(r"```yaml\n(.*?)```", RECORD.read_text(), re.DOTALL)
    assert written
    place = tmp_path / "reader-taught.yaml"
    place.write_text(
        written[1]
        .replace("size: [64, 64]", "size: [32, 32]")
        .replace("steps: 400", "steps: 40")
        .replace("batch: 32", "batch: 8")
        .replace("channels: [16, 32, 64]", "channels: [4, 8]")
    )
    record = read_method(place)
    collection = read_collection(exported, record.input.contract(describe(exported).contract))
    material = gather(collection, seed=0)
    assert material.marked is not None
    assert material.marked.lesion is not None
    assert material.marked.lesion.sum() > 0

    trained = train(record, material.train, material.toys, seed=0, marked=material.marked)

    (losses,) = trained.losses
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    found = trained.head(material.marked.pixels, material.marked.mask, material.marked.position)[1]
    inside = found[material.marked.lesion > 0].mean()
    outside = found[(material.marked.lesion == 0) & (material.marked.mask > 0)].mean()
    assert torch.isfinite(inside)
    assert inside > outside
    with pytest.raises(TrainingError, match="split train has none"):
        train(record, material.train, None, seed=0)
