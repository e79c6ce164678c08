from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from models.errors import DatasetError
from models.images.collection import read_collection
from models.volume import Volume
from tests.models.images.folders import head, manifest_rows, write_table


def test_a_manifest_gives_splits_labels_findings_and_numbers(picture_folder: Path) -> None:
    collection = read_collection(picture_folder)

    assert [picture.split for picture in collection.pictures] == ["train"] * 6 + ["val"] * 2
    assert [picture.label for picture in collection.pictures] == [0] * 7 + [1]
    assert [picture.finding for picture in collection.pictures] == [""] * 7 + ["mass"]
    assert collection.pictures[0].covariates["age"] == 40
    assert "age" not in collection.pictures[6].covariates
    assert collection.groups == {"mass": ("mass",)}


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (3, {"file": "gone.png"}, "row 5: no file gone.png"),
        (3, {"file": "0.png"}, "row 2 and row 5 name the same file"),
        (3, {"file": "../0.png"}, "row 5: '../0.png' is not a file inside"),
        (3, {"patient": ""}, "row 5: no patient"),
        (3, {"split": ""}, "row 5: no split"),
        (3, {"label": "yes"}, "row 5: label 'yes' is neither 0"),
        (3, {"age": "forty"}, "row 5, age: 'forty' is not a number"),
        (3, {"age": "nan"}, "row 5, age: 'nan' is not a finite number"),
        (6, {"patient": "p2"}, "row 4 and row 8 are the same patient on both sides"),
    ],
)
def test_a_wrong_row_is_named_before_training(
    picture_folder: Path, row: int, change: dict[str, str], message: str
) -> None:
    rows = manifest_rows()
    rows[row] = {**rows[row], **change}
    write_table(picture_folder / "manifest.csv", rows)

    with pytest.raises(DatasetError, match=message):
        read_collection(picture_folder)


def test_a_missing_column_is_named_with_those_there_are(picture_folder: Path) -> None:
    write_table(
        picture_folder / "manifest.csv",
        [{key: value for key, value in row.items() if key != "split"} for row in manifest_rows()],
    )

    with pytest.raises(DatasetError, match="no column split; it has file, patient, label, finding, age"):
        read_collection(picture_folder)


def test_a_ragged_row_is_named(picture_folder: Path) -> None:
    with (picture_folder / "manifest.csv").open("a", encoding="utf-8") as file:
        file.write("8.png,p8\n")

    with pytest.raises(DatasetError, match="row 10: not as many fields"):
        read_collection(picture_folder)


def test_an_error_names_no_person(picture_folder: Path) -> None:
    rows = manifest_rows()
    rows[0]["patient"] = rows[7]["patient"] = "Doe-Jane-1970"
    write_table(picture_folder / "manifest.csv", rows)

    with pytest.raises(DatasetError) as refused:
        read_collection(picture_folder)

    assert "Doe" not in str(refused.value)


def test_slices_are_put_in_the_order_of_their_numbers(stack_folder: Path) -> None:
    collection = read_collection(stack_folder)

    stack = collection.studies()["p4"]
    assert [picture.index for picture in stack] == [0, 1, 2, 3, 4]
    assert [bool(picture.mask.any()) for picture in stack] == [False, True, True, True, True]
    assert [picture.label for picture in stack] == [0, 0, 1, 0, 0]
    assert [picture.finding for picture in stack] == ["", "", "tumour", "", ""]
    assert stack[2].lesion is not None
    assert np.argwhere(stack[2].lesion).min(axis=0).tolist() == [18, 15]
    assert stack[2].lesion.sum() == 36


def test_volumes_bring_their_lesions_along(tmp_path: Path) -> None:
    voxels = np.stack([head(40, 36, seed=s) for s in range(5)]).transpose(2, 1, 0)  # (i, j, k)
    lesion = np.zeros(voxels.shape, np.uint8)
    lesion[3, 35, 4] = 1  # left in the file's RAS, front, top
    for name, data in (("scan.nii.gz", voxels), ("lesion.nii.gz", lesion)):
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / name)
    write_table(
        tmp_path / "manifest.csv",
        [{"file": "scan.nii.gz", "patient": "a", "split": "val", "label": 1, "lesion": "lesion.nii.gz"}],
    )

    pictures = read_collection(tmp_path).pictures

    assert [picture.label for picture in pictures] == [0, 0, 0, 0, 1]
    assert pictures[4].lesion is not None
    assert np.argwhere(pictures[4].lesion).tolist() == [[4, 32]]  # front is up, left is right


def test_a_lesion_of_another_grid_is_refused(picture_folder: Path) -> None:
    Image.fromarray(np.ones((5, 5), np.uint8)).save(picture_folder / "lesion.png")
    rows = [{**row, "lesion": "lesion.png" if row["label"] else ""} for row in manifest_rows()]
    write_table(picture_folder / "manifest.csv", rows)

    with pytest.raises(DatasetError, match=r"lesion\.png: a mask of shape .* does not fit"):
        read_collection(picture_folder)


def test_a_normal_stack_with_a_lesion_is_a_contradiction(stack_folder: Path) -> None:
    patients = stack_folder / "patients.csv"
    manifest = [{"file": f"p{i}.npz", "patient": f"p{i}", "split": "train", "label": 0} for i in range(5)]
    for i in range(5):
        with np.load(stack_folder / f"p{i}.npz", allow_pickle=False) as stack:
            np.savez(stack_folder / f"p{i}.npz", image=stack["flair"], mask=stack["mask"])
    patients.unlink()
    folder = stack_folder.rename(stack_folder.parent / "mine")
    write_table(folder / "manifest.csv", manifest)

    with pytest.raises(DatasetError, match="row 6: labelled normal, but"):
        read_collection(folder)


def test_a_folder_of_a_series_is_opened_by_who_can(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    write_table(tmp_path / "manifest.csv", [{"file": "series", "patient": "a", "split": "val", "label": 0}])
    voxels = np.stack([head(40, 36, seed=s) for s in range(5)]).astype(np.float32)
    affine = np.array([[0, 0, 1.0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    volume = Volume(voxels=voxels, spacing_mm=(1, 1, 1), affine=affine)

    with pytest.raises(DatasetError, match="row 2: series is a folder"):
        read_collection(tmp_path)
    assert len(read_collection(tmp_path, read_folder=lambda _: volume).pictures) == 5


def test_a_file_of_another_kind_is_refused(picture_folder: Path) -> None:
    (picture_folder / "0.png").rename(picture_folder / "0.webp")
    rows = manifest_rows()
    rows[0]["file"] = "0.webp"
    write_table(picture_folder / "manifest.csv", rows)

    with pytest.raises(DatasetError, match=r"row 2: 0\.webp is neither PNG"):
        read_collection(picture_folder)


def test_a_grade_becomes_a_finding_and_must_not_contradict_the_label(tmp_path: Path) -> None:
    folder = tmp_path / "fundus"
    (folder / "images").mkdir(parents=True)
    rows: list[dict[str, object]] = []
    for i, (grade, label) in enumerate([(1, 0), (3, 1), (7, 1), (1, 0)]):
        Image.fromarray(np.stack([head(64, 64, seed=i)] * 3, axis=-1)).save(folder / "images" / f"{i}.jpg")
        rows.append(
            {
                "file": f"{i}.jpg",
                "label": label,
                "grade": grade,
                "split": "val",
                "patient": i,
                "eye": "RL"[i % 2],
            }
        )
    write_table(folder / "labels.csv", rows)

    collection = read_collection(folder)

    assert [picture.finding for picture in collection.pictures] == ["", "mild", "severe", ""]
    assert set(collection.groups) == {"any", "moderate+", "severe+"}
    assert collection.pictures[0].grid[1, 1] > 0 > collection.pictures[1].grid[1, 1]  # mirrored
    rows[0]["label"] = 1
    write_table(folder / "labels.csv", rows)
    with pytest.raises(DatasetError, match="row 2: label 1 contradicts finding 'none'"):
        read_collection(folder)
    rows[0]["grade"] = 11
    write_table(folder / "labels.csv", rows)
    with pytest.raises(DatasetError, match="row 2: finding '11' is not one of"):
        read_collection(folder)


def test_one_name_in_two_folders_is_two_studies_on_their_own_sides(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["file,patient,split,label"]
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for i in range(8):
            picture = rng.integers(1, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / split / f"{i}.png")
            rows.append(f"{split}/{i}.png,{split}{i},{split},0")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")

    collection = read_collection(tmp_path)

    taught = collection.of_role("train", "selection", "calibration")
    assert {picture.split for picture in taught} == {"train"}
    assert len(taught) == 8
    assert len(collection.studies()) == 16
