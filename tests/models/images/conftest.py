"""Small data folders, written by the tests themselves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.models.images.folders import head, manifest_rows, write_table


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """A folder of PNG pictures with a manifest."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = manifest_rows()
    for i, row in enumerate(rows):
        Image.fromarray(head(seed=i)).save(folder / str(row["file"]))
    write_table(folder / "manifest.csv", rows)
    return folder


@pytest.fixture
def stack_folder(tmp_path: Path) -> Path:
    """A folder laid out as the FLAIR stacks: five patients, slices stored out of order, tumour in one."""
    folder = tmp_path / "brain-mri-lgg"
    folder.mkdir()
    rows = []
    for i in range(5):
        slices = np.stack([np.zeros((40, 40), np.uint8), *(head(40, 40, seed=10 * i + s) for s in range(4))])
        mask = np.zeros(slices.shape, dtype=np.uint8)
        if i == 4:
            mask[2, 18:24, 15:21] = 1
        order = np.array([3, 0, 4, 1, 2])
        np.savez(
            folder / f"p{i}.npz",
            flair=slices[order],
            mask=np.packbits(mask[order], axis=-1),
            slice_number=order + 1,
        )
        rows.append({"patient": f"p{i}", "split": "train" if i < 4 else "val", "slices": 5})
    write_table(folder / "patients.csv", rows)
    return folder
