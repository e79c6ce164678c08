from pathlib import Path

import pytest
import yaml

from models.errors import DatasetError, RecordError
from models.images import description
from models.images.description import TableLayout, describe
from tests.models.images.folders import write_table

DESCRIBED = (
    "head-ct-2d",
    "fashion-mnist",
    "brain-mri-lgg",
    "chest-xray",
    "fundus",
    "brain-mri-ms",
    "brain-mri-t1",
)


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_described_folder_has_a_valid_description(tmp_path: Path, name: str) -> None:
    data = describe(tmp_path / name)

    assert data.name == name
    assert data.licence
    assert data.group


@pytest.mark.parametrize("name", ["head-ct-2d", "brain-mri-lgg", "chest-xray", "fundus"])
def test_what_has_no_free_licence_may_not_ship(tmp_path: Path, name: str) -> None:
    assert not describe(tmp_path / name).may_ship


def test_the_fixed_split_of_volumes_holds_for_their_slices(tmp_path: Path) -> None:
    data = describe(tmp_path / "brain-mri-t1")

    assert data.roles["ds002748_sub-05_T1w.nii.gz"] == "selection"
    assert data.roles["ds000011_sub-01_T1w.nii.gz"] == "not_assessable"


def test_columns_are_those_the_patterns_name() -> None:
    layout = TableLayout(
        layout="table",
        file="{a}/{b}.png",
        label="0",
        split="test",
        where={"c": "1"},
        original_shape=("d", "e"),
    )

    assert layout.columns() == {"a", "b", "c", "d", "e", "patient"}


def test_a_manifest_describes_a_folder_by_its_columns(picture_folder: Path) -> None:
    data = describe(picture_folder)

    assert isinstance(data.files, TableLayout)
    assert data.files.finding == "{finding}"
    assert data.files.lesion == ""
    assert data.files.numbers == ("age",)


def test_a_folder_that_says_nothing_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"add manifest\.csv"):
        describe(tmp_path)


def test_a_wrong_description_is_refused_by_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (description.RECORDS / "fundus.yaml").read_text(encoding="utf-8")
    document = {**yaml.safe_load(text), "shares": {"selection": 0.6, "calibration": 0.6}}
    (tmp_path / "fundus.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.setattr(description, "RECORDS", tmp_path)

    with pytest.raises(RecordError, match="leave nothing for training"):
        describe(tmp_path / "fundus")


def test_a_description_of_volumes_alone_leaves_the_manifest_to_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans.yaml").write_text("name: scans\nvolumes: []\n", encoding="utf-8")
    monkeypatch.setattr(description, "RECORDS", tmp_path)
    (tmp_path / "scans").mkdir()
    write_table(tmp_path / "scans" / "manifest.csv", [{"file": "", "patient": "", "split": "", "label": ""}])

    assert describe(tmp_path / "scans").description == "folder with manifest.csv"
