from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import DatasetError
from models.images import collection as module
from models.images.collection import read_collection
from models.images.contract import ImageContract
from tests.models.images.folders import head, manifest_rows, write_table

SMALL = ImageContract(size=(24, 24), context=(-1, 0, 1))


def test_a_patient_has_one_role_and_every_role_somebody(stack_folder: Path) -> None:
    collection = read_collection(stack_folder)

    assert sorted(collection.roles) == ["p0", "p1", "p2", "p3"]
    assert sorted(collection.roles.values()) == ["calibration", "selection", "train", "train"]


def test_who_else_is_in_the_folder_changes_the_order_of_nobody(picture_folder: Path) -> None:
    """A smaller folder keeps selection a subset of what the larger one held apart or earlier in the order."""
    before = read_collection(picture_folder).roles
    rows = [row for row in manifest_rows() if before.get(str(row["file"]).partition(".")[0]) != "train"]
    rows += [row for row in manifest_rows() if row not in rows][:1]
    write_table(picture_folder / "manifest.csv", rows)

    after = read_collection(picture_folder).roles

    assert {study for study, role in after.items() if role == "selection"} == {
        study for study, role in before.items() if role == "selection"
    }


def test_roles_hold_normal_slices_that_show_something(stack_folder: Path) -> None:
    collection = read_collection(stack_folder)

    found = [
        picture for role in ("train", "selection", "calibration") for picture in collection.of_role(role)
    ]
    assert len(found) == 4 * 4  # one of five slices is empty
    assert all(picture.label == 0 and picture.split == "train" for picture in found)


def test_a_stack_is_fed_with_its_neighbours_whoever_asks(stack_folder: Path) -> None:
    collection = read_collection(stack_folder, SMALL)
    stack = collection.studies()["p2"]

    fed = collection.arrays([stack[4], stack[2]])

    assert fed.pixels.shape == (2, 3, 24, 24)
    assert fed.mask.shape == (2, 1, 24, 24)
    np.testing.assert_array_equal(fed.pixels[1], np.concatenate([stack[i].pixels for i in (1, 2, 3)]))
    np.testing.assert_array_equal(fed.pixels[0], np.concatenate([stack[i].pixels for i in (3, 4, 4)]))
    assert len(fed) == 2


def test_a_folder_made_elsewhere_with_another_split_name_is_scored(stack_folder: Path) -> None:
    rows = [{"patient": f"p{i}", "split": "test", "slices": 5} for i in (4, 1)]
    write_table(stack_folder / "patients.csv", rows)

    collection = read_collection(stack_folder)

    assert collection.scored_splits == ("test",)
    assert list(collection.studies()) == ["p4", "p1"]


def test_only_the_parts_asked_for_are_read(picture_folder: Path) -> None:
    (picture_folder / "0.png").write_bytes(b"not opened")

    assert read_collection(picture_folder, splits=["val"]).splits == ("val",)
    with pytest.raises(DatasetError, match="no picture in holiday"):
        read_collection(picture_folder, splits=["holiday"])


def test_a_constant_picture_is_refused_by_name(picture_folder: Path) -> None:
    Image.fromarray(np.full((20, 20), 7, np.uint8)).save(picture_folder / "3.png")

    with pytest.raises(DatasetError, match="3: every pixel has the same value"):
        read_collection(picture_folder)


def test_a_class_without_pictures_stops_training(picture_folder: Path) -> None:
    rows = [row for row in manifest_rows() if row["split"] != "train"]
    write_table(picture_folder / "manifest.csv", rows)
    with pytest.raises(DatasetError, match="no normal picture for train"):
        read_collection(picture_folder).check_training()

    rows = [row for row in manifest_rows() if row["split"] == "train" or row["label"] == 1]
    write_table(picture_folder / "manifest.csv", rows)
    with pytest.raises(DatasetError, match="part val has abnormal pictures and no normal one"):
        read_collection(picture_folder).check_training()


def test_a_whole_folder_passes_the_check(picture_folder: Path, stack_folder: Path) -> None:
    read_collection(picture_folder).check_training()
    read_collection(stack_folder).check_training()


def test_memory_is_bounded(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_COLLECTION", 1 << 12)

    with pytest.raises(DatasetError, match="prepare them smaller"):
        read_collection(picture_folder)


def test_colour_that_is_not_there_is_refused_by_name(picture_folder: Path) -> None:
    with pytest.raises(DatasetError, match="0: the steps end with 1 channels, the contract has 3"):
        read_collection(picture_folder, ImageContract(size=(24, 24), channels=3))


def test_a_task_is_refused_where_there_is_only_one_use(picture_folder: Path) -> None:
    with pytest.raises(DatasetError, match="no task 'boots'"):
        read_collection(picture_folder, task="boots")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="elsewhere: no such folder"):
        read_collection(tmp_path / "elsewhere")


def test_nothing_asked_for_is_no_array(picture_folder: Path) -> None:
    with pytest.raises(DatasetError, match="no picture of what was asked for"):
        read_collection(picture_folder).arrays([])


def test_pictures_of_any_size_are_prepared_alike(picture_folder: Path) -> None:
    Image.fromarray(head(90, 70, seed=3)).save(picture_folder / "3.png")

    collection = read_collection(picture_folder)

    assert {picture.pixels.shape for picture in collection.pictures} == {(1, 96, 96)}
    assert collection.pictures[3].native_shape == (90, 70)
