"""The real data folders, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest

from models.images.collection import Collection, read_collection


def folder(test_data: Path, name: str) -> Path:
    if not (test_data / name).is_dir():
        pytest.skip(f"no {name} in VIGIL_TEST_DATA")
    return test_data / name


@pytest.mark.parametrize("name", ["head-ct-2d", "chest-xray", "fundus", "brain-mri-t1"])
def test_training_can_start_on(test_data: Path, name: str) -> None:
    read_collection(folder(test_data, name), splits=["train"]).check_training()


@pytest.mark.long
@pytest.mark.parametrize("name", ["brain-mri-lgg", "brain-mri-ms"])
def test_lesions_lie_on_bright_flair(test_data: Path, name: str) -> None:
    """A flipped or shifted mask would not: lesions are brighter than the slice they lie in."""
    collection = read_collection(folder(test_data, name), splits=["val", "test"])

    brighter = [lesion_contrast(collection, study) for study in collection.studies()]

    assert np.mean(np.array([contrast for contrast in brighter if contrast is not None]) > 0) > 0.9


def lesion_contrast(collection: Collection, study: str) -> float | None:
    """Mean brightness of lesions less that of the other tissue of the same slices."""
    inside, outside = [], []
    for picture in collection.studies()[study]:
        assert picture.lesion is not None
        native = picture.to_native(picture.pixels[0])
        tissue = picture.to_native(picture.mask.astype(np.float32)) > 0.5
        if picture.lesion.any():
            inside.append(native[picture.lesion & tissue])
            outside.append(native[tissue & ~picture.lesion])
    if not inside:
        return None
    return float(np.concatenate(inside).mean() - np.concatenate(outside).mean())


def test_the_boots_have_the_numbers_of_the_protocol(test_data: Path) -> None:
    collection = read_collection(folder(test_data, "fashion-mnist"), task="boots")

    assert len(collection.of_role("train")) == 4200
    assert len(collection.of_split("test")) == 1200 + 3 * 1200
