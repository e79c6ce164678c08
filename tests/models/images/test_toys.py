from pathlib import Path

import numpy as np
import pytest

from models.errors import DatasetError
from models.images.collection import Collection, read_collection
from models.images.toys import CONTEXT, TOYS, categories, corrupted, sweep, toy_set, untouched


@pytest.fixture
def stacks(stack_folder: Path) -> Collection:
    return read_collection(stack_folder)


def test_a_toy_set_holds_every_study_as_it_is_and_changed(stacks: Collection) -> None:
    normal = stacks.of_role("train", "selection")

    toys = toy_set(stacks, normal, seed=1, copies=2)

    studies = {picture.study for picture in normal}
    expected = studies | {f"{study}+sphere-{copy}" for study in studies for copy in range(2)}
    assert set(toys.studies()) == expected
    assert len(toys.of_split(TOYS)) == 3 * len(normal)
    assert {picture.label for picture in toys.of_split(TOYS)} == {0, 1}
    assert all(
        bool(picture.label) == (picture.lesion is not None and bool(picture.lesion.any()))
        for picture in toys.pictures
    )


def test_slices_that_were_not_given_are_context_alone(stacks: Collection) -> None:
    normal = stacks.of_role("train")

    toys = untouched(stacks, normal[:1])

    assert [picture.split for picture in toys.pictures].count(TOYS) == 1
    assert [picture.split for picture in toys.pictures].count(CONTEXT) == 4


def test_a_lesion_lies_on_the_prepared_grid(stacks: Collection) -> None:
    toys = corrupted(stacks, stacks.of_role("train"), seed=1)

    hit = next(picture for picture in toys.pictures if picture.label)
    assert hit.lesion is not None
    assert hit.lesion.shape == hit.mask.shape == hit.native_shape
    np.testing.assert_array_equal(hit.to_native(hit.pixels[0]), hit.pixels[0])


def test_a_toy_does_not_depend_on_who_else_is_there(stacks: Collection) -> None:
    normal = stacks.of_role("train", "selection", "calibration")
    study = normal[-1].study

    alone = corrupted(stacks, [picture for picture in normal if picture.study == study], seed=1)
    among = corrupted(stacks, normal, seed=1)

    for picture, other in zip(alone.pictures, among.studies()[f"{study}+sphere-0"], strict=True):
        np.testing.assert_array_equal(picture.pixels, other.pixels)


def test_another_seed_or_copy_is_another_toy(stacks: Collection) -> None:
    normal = stacks.of_role("train")
    first, seed, copy = (
        np.concatenate([picture.pixels for picture in toys.pictures])
        for toys in (
            corrupted(stacks, normal, seed=1),
            corrupted(stacks, normal, seed=2),
            corrupted(stacks, normal, seed=1, copy=1),
        )
    )

    assert not np.array_equal(first, seed)
    assert not np.array_equal(first, copy)


def test_a_sweep_over_intensity_stays_in_its_place(stacks: Collection) -> None:
    steps = dict(sweep(stacks, stacks.of_role("train"), over="intensity", seed=1))

    assert list(steps)[:2] == [0.0, 0.05]
    assert len(steps) == 21
    lesions = [np.stack([picture.lesion for picture in toys.pictures]) for toys in steps.values()]
    assert all(np.array_equal(lesions[0], lesion) for lesion in lesions)


def test_a_sweep_over_radius_grows(stacks: Collection) -> None:
    sizes = [
        sum(int(picture.lesion.sum()) for picture in toys.pictures if picture.lesion is not None)
        for _, toys in sweep(stacks, stacks.of_role("train"), over="radius", seed=1)
    ]

    assert sizes == sorted(sizes)
    assert sizes[-1] > 10 * sizes[0]


def test_single_pictures_lose_no_slices(stacks: Collection, picture_folder: Path) -> None:
    assert "dropped" in categories(stacks)
    assert set(categories(stacks)) - set(categories(read_collection(picture_folder))) == {"dropped"}


def test_a_study_with_nothing_to_assess_is_refused(stacks: Collection) -> None:
    empty = stacks.studies()["p0"][0]
    assert not empty.mask.any()

    with pytest.raises(DatasetError, match="p0: nothing in it is assessed"):
        corrupted(stacks, [empty], seed=1)
