"""Data folders with known roles: which file is whose, and what it may be used for.

A folder named ``<folder>`` is described by ``models/records/data/<folder>.yaml``; the description is
part of the product, the images are not.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import nibabel
import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import Reason, RecordError
from models.volume import Volume

RECORDS = Path(__file__).resolve().parent.parent / "records" / "data"
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Role = Literal["train", "selection", "calibration", "test", "not_assessable"]


class Entry(BaseModel):
    """One volume of a data folder.

    Attributes
    ----------
    file : str
        Name inside the folder.
    subject : str
        Pseudonym of the person; a person has one role.
    role : str
        What the volume may be used for.
    finding : str
        What is to be seen; empty for normals.
    mask : str
        File of the lesion mask on the same grid, where there is one.
    reason : Reason or None
        Why it must be refused, for role ``not_assessable``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    subject: str
    role: Role
    finding: str = ""
    mask: str = ""
    reason: Reason | None = None


class DataRecord(BaseModel):
    """The description of one data folder: origin, licence, split.

    Attributes
    ----------
    source, drawn : str
        Where the volumes come from and how the split was made.
    group : str
        Who the normals are; names the reference group of a calibration made with them.
    remarks : str
        What a reader of a model card must know about them.
    roles : dict of str to str
        What each part of the split is used for.
    seed : int, optional
        Of the split.
    images : dict, optional
        How the same folder is read slice by slice; checked by `models.images.description`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    modality: str
    licence: str
    citation: str
    source: str
    drawn: str
    group: str
    remarks: str = ""
    roles: dict[Role, str]
    volumes: Annotated[tuple[Entry, ...], Field(min_length=1)]
    seed: int | None = None
    images: dict[str, Any] | None = None

    def of_role(self, role: Role) -> tuple[Entry, ...]:
        """Entries of one role, in the order of the record."""
        return tuple(entry for entry in self.volumes if entry.role == role)


def read_data_record(folder: Path) -> DataRecord:
    """The description of a data folder, found by the folder's name.

    Raises
    ------
    RecordError
        If there is no description, it is not valid, or a person has two roles.
    """
    path = RECORDS / f"{folder.resolve().name}.yaml"
    if not path.is_file():
        raise RecordError(f"no description of {folder.resolve().name}: write models/records/data/{path.name}")
    try:
        record = DataRecord.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise RecordError(f"{path.name}: {error}") from error
    roles: dict[str, str] = {}
    for entry in record.volumes:
        if roles.setdefault(entry.subject, entry.role) != entry.role:
            raise RecordError(f"{path.name}: subject {entry.subject} is in two parts of the split")
    return record


def read_nifti(path: Path) -> Volume:
    """One NIfTI volume, axes ordered (slices, rows, columns), affine in LPS.

    Raises
    ------
    GeometryError
        If the file's grid is impossible.
    """
    image = nibabel.load(path)
    data = np.asarray(image.dataobj, dtype=np.float32)  # (i, j, k)
    affine = RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64)
    affine = affine[:, [2, 1, 0, 3]]
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    return Volume(
        voxels=np.ascontiguousarray(data.transpose(2, 1, 0)),
        spacing_mm=(float(steps[0]), float(steps[1]), float(steps[2])),
        affine=affine,
    )


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A lesion mask on the grid of its volume, shape (slices, rows, columns)."""
    return read_nifti(path).voxels > 0
