import gzip
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models.errors import DatasetError
from models.images.collection import read_collection
from tests.models.images.folders import head


def write_idx(path: Path, values: np.ndarray) -> None:
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(b"\0\0\x08" + bytes([values.ndim]) + sizes + values.tobytes()))


@pytest.fixture
def clothes(tmp_path: Path) -> Path:
    """Forty pictures a class to train, four to test."""
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name, count in (("train", 400), ("t10k", 40)):
        write_idx(
            folder / f"{name}-images-idx3-ubyte.gz", rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        )
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return folder


def test_the_boots_are_cut_into_the_shares_of_the_protocol(clothes: Path) -> None:
    collection = read_collection(clothes, task="boots")

    assert {role: len(collection.of_role(role)) for role in ("train", "selection", "calibration")} == {
        "train": 28,
        "selection": 2,
        "calibration": 2,
    }
    tested = Counter(picture.finding for picture in collection.of_split("test"))
    assert tested == {"": 8, "dress": 40, "sandal": 40, "sneaker": 40}


def test_no_picture_is_in_two_parts(clothes: Path) -> None:
    collection = read_collection(clothes, task="boots")

    numbers = [picture.study.rpartition("-")[2] for picture in collection.pictures]
    assert len(numbers) == len(set(numbers)) == 40 + 3 * 40


def test_the_odd_class_is_never_trained_on(clothes: Path) -> None:
    collection = read_collection(clothes, task="odd-5")

    assert len(collection.of_split("train")) == 9 * 40
    assert len(collection.of_role("train")) == 9 * 40 - 2 * 18
    assert Counter(picture.finding for picture in collection.of_split("test")) == {"": 36, "sandal": 4}


def test_a_part_can_be_read_alone(clothes: Path) -> None:
    assert read_collection(clothes, task="boots", splits=["test"]).splits == ("test",)


def test_the_same_cut_is_made_every_time(clothes: Path) -> None:
    first, second = (read_collection(clothes, task="boots") for _ in range(2))

    assert first.roles == second.roles
    assert [picture.study for picture in first.pictures] == [picture.study for picture in second.pictures]


def test_an_unknown_task_is_refused_with_those_there_are(clothes: Path) -> None:
    with pytest.raises(DatasetError, match="no task 'hats'; it has boots, odd-0"):
        read_collection(clothes, task="hats")


def test_labels_of_another_set_are_refused(clothes: Path) -> None:
    write_idx(clothes / "train-labels-idx1-ubyte.gz", np.zeros(399, np.uint8))

    with pytest.raises(DatasetError, match=r"does not belong to \(399,\) labels"):
        read_collection(clothes)


def test_an_empty_class_is_named(clothes: Path) -> None:
    write_idx(clothes / "train-labels-idx1-ubyte.gz", (np.arange(400) % 9).astype(np.uint8))

    with pytest.raises(DatasetError, match="no picture of class ankle-boot"):
        read_collection(clothes)


def arrays(**changes: object) -> dict[str, object]:
    count = 6
    return {
        "image": np.stack([head(256, 256, seed=i) for i in range(count)]),
        "label": np.array([0, 0, 0, 0, 0, 1], np.uint8),
        "source_id": np.arange(count),
        "near_dup_group": np.arange(count),
        "orig_size": np.full((count, 2), [400, 500]),
        "split": np.array(["train"] * 4 + ["val"] * 2),
        **changes,
    }


def head_ct(tmp_path: Path, **changes: object) -> Path:
    folder = tmp_path / "head-ct-2d"
    folder.mkdir(exist_ok=True)
    np.savez(folder / "head_ct_256.npz", **arrays(**changes))  # type: ignore[arg-type]  # arrays all
    return folder


def test_width_stands_before_height_in_the_sizes_of_the_head_ct(tmp_path: Path) -> None:
    collection = read_collection(head_ct(tmp_path))

    assert collection.pictures[0].covariates["aspect_ratio"] == pytest.approx(400 / 500)
    assert [picture.finding for picture in collection.pictures] == [""] * 5 + ["haemorrhage"]


def test_another_half_with_other_splits_is_read_the_same(tmp_path: Path) -> None:
    folder = head_ct(tmp_path, split=np.array(["test"] * 6))

    collection = read_collection(folder)

    assert collection.scored_splits == ("test",)
    assert collection.roles == {}


def test_near_duplicates_on_both_sides_are_refused(tmp_path: Path) -> None:
    folder = head_ct(tmp_path, near_dup_group=np.array([0, 1, 2, 3, 4, 0]))

    with pytest.raises(DatasetError, match="picture 0 and picture 5 are the same patient"):
        read_collection(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": np.zeros(5)}, "label has 5 entries for 6 pictures"),
        ({"label": np.array([0, 0, 0, 0, 0, 7])}, "picture 5: label '7'"),
        ({"image": np.zeros((6, 256), np.uint8)}, r"image has shape \(6, 256\)"),
        ({"image": np.zeros((6, 64, 64), np.uint8)}, "every pixel has the same value"),
        ({"image": np.full((6, 64, 64), np.nan)}, "not finite"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        read_collection(head_ct(tmp_path, **changes))
