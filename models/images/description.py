"""What a data folder holds: layout, columns, findings, licences, and how its pictures are prepared.

A folder named ``<folder>`` is described by ``models/records/data/<folder>.yaml`` (in its section ``images``,
where the file describes volumes as well). The description names no picture, so another folder of the same
name and layout, with other rows and splits, is read by it too. A folder without a description is read by
its ``manifest.csv``.
"""

import csv
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import DatasetError, RecordError
from models.images.contract import ImageContract, PercentileScale

RECORDS = Path(__file__).resolve().parent.parent / "records" / "data"
MANIFEST = "manifest.csv"
SHARED_KEYS = ("name", "description", "modality", "licence", "citation", "source", "group", "remarks")

Share = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A part of a description."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TableLayout(Section):
    """A CSV table with one row a picture or stack.

    ``{column}`` in a pattern stands for the row's value in that column.

    Attributes
    ----------
    table : str
        The CSV file.
    file : str
        Pattern of the picture's path in the folder: PNG, JPEG, NIfTI or npz.
    patient, split : str
        Patterns.
    label : str
        Pattern of 0 (normal), 1 (abnormal) or nothing (not known). An empty pattern: what has a finding is
        abnormal; slices of a stack with lesions are labelled by them.
    finding : str
        Pattern of the finding.
    findings : dict of str to str
        Names of the values of ``finding``; an empty name is normal. Without it values are names, and those of
        normal pictures do not count.
    lesion : str
        Pattern of the lesion mask's file, on the same grid as the picture; empty for none.
    where : dict of str to str
        Only rows with these values are read.
    original_shape : tuple of str, optional
        Columns of the rows and columns a picture had before it was padded to a square.
    left_eye : dict of str to str
        Values of a row that shows a left eye.
    numbers : tuple of str
        Columns that become covariates where they hold a number.
    image, mask, order : str
        Arrays of an npz file: slices, lesions (bits packed along columns, or one byte each), slice numbers.
    """

    layout: Literal["table"]
    table: str = MANIFEST
    file: str = "{file}"
    patient: str = "{patient}"
    split: str = "{split}"
    label: str = ""
    finding: str = ""
    findings: dict[str, str] = {}
    lesion: str = ""
    where: dict[str, str] = {}
    original_shape: tuple[str, str] | None = None
    left_eye: dict[str, str] = {}
    numbers: tuple[str, ...] = ()
    image: str = "image"
    mask: str = "mask"
    order: str = "slice_number"

    def columns(self) -> set[str]:
        """Columns the table must have."""
        patterns = (self.file, self.patient, self.split, self.label, self.finding, self.lesion)
        named = {field for text in patterns for _, field, _, _ in Formatter().parse(text) if field}
        return named | {*self.where, *self.left_eye, *self.numbers, *(self.original_shape or ())}


class ArraysLayout(Section):
    """One npz file with an array of single pictures and arrays that describe them.

    Attributes
    ----------
    file : str
    image, label, split, patient, study : str
        Names of the arrays: pictures (n, rows, columns) or (n, rows, columns, channels); 0 or 1; name of the
        part; group that must stay on one side (a person, or near duplicates); number of the picture.
    finding : str
        What label 1 stands for.
    original_size : str
        Array of the sizes before padding, (n, 2), as width and height; empty for none.
    """

    layout: Literal["arrays"]
    file: str
    image: str = "image"
    label: str = "label"
    split: str = "split"
    patient: str = "patient"
    study: str = "study"
    finding: str = "abnormal"
    original_size: str = ""


class IdxLayout(Section):
    """The four files of MNIST-like sets.

    Attributes
    ----------
    files : dict of str to tuple of str
        Images and labels of the parts ``train`` and ``test``.
    classes : tuple of str
        Names of the labels 0, 1, ...
    """

    layout: Literal["idx"]
    files: dict[Literal["train", "test"], tuple[str, str]]
    classes: tuple[str, ...]


class Task(Section):
    """Which classes are normal and which are not.

    Attributes
    ----------
    title : str
    normal : tuple of int
        Classes trained on; empty for all that are not abnormal.
    abnormal : tuple of int
        Classes that count as findings.
    cut : dict of str to float, optional
        The train file alone is cut into these parts at random: shares of the normals for train, selection,
        calibration and test. Without it the files' own parts are kept.
    abnormal_limit : int, optional
        Abnormal pictures tested of each class, drawn at random.
    """

    title: str
    normal: tuple[int, ...] = ()
    abnormal: Annotated[tuple[int, ...], Field(min_length=1)]
    cut: dict[Literal["train", "selection", "calibration", "test"], Share] | None = None
    abnormal_limit: Annotated[int, Field(ge=1)] | None = None


class Shares(Section):
    """How the patients of split ``train`` are cut into roles; the rest of one is for training."""

    selection: Share = 0.15
    calibration: Share = 0.15

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        if self.selection + self.calibration >= 1:
            raise ValueError("selection and calibration leave nothing for training")
        return self


class ImageData(Section):
    """The description of one data folder of pictures.

    Attributes
    ----------
    name, description, modality, licence, citation, source : str
        What it is and where it comes from.
    body_parts : tuple of str
        Values of DICOM's Body Part Examined that a model trained on it may score; empty: any.
    may_ship : bool
        Whether weights trained on it may leave the place where they were trained.
    group : str
        Who the normals are; names the reference group of a calibration made with them.
    remarks : str
        What a reader of a table or model card must know.
    files : TableLayout or ArraysLayout or IdxLayout
        How the folder is laid out.
    groups : dict of str to tuple of str
        Findings counted together in a row of a table, by the row's name. Without it each finding is a row.
    contract : ImageContract
        How pictures are prepared, unless a method record says otherwise.
    shares : Shares
        How split ``train`` is cut into roles, by patient.
    roles : dict of str to str
        File name to role, for folders whose split is fixed file by file; ``test`` is scored by evaluation. A
        file that is not listed is in the part its row names.
    tasks : dict of str to Task
        Ways to use a set of classes; the first is taken where none is asked for.
    """

    name: str
    description: str
    modality: str
    licence: str
    citation: str = ""
    source: str = ""
    body_parts: tuple[str, ...] = ()
    may_ship: bool = False
    group: str
    remarks: str = ""
    files: TableLayout | ArraysLayout | IdxLayout = Field(discriminator="layout")
    groups: dict[str, tuple[str, ...]] = {}
    contract: ImageContract
    shares: Shares = Shares()
    roles: dict[str, Literal["train", "selection", "calibration", "test", "not_assessable"]] = {}
    tasks: dict[str, Task] = {}


def describe(folder: Path) -> ImageData:
    """The description of a data folder, found by its name, or made of its manifest.

    Raises
    ------
    RecordError
        If the description is not valid.
    DatasetError
        If there is neither a description of pictures nor a manifest.
    """
    name = folder.resolve().name
    path = RECORDS / f"{name}.yaml"
    if path.is_file():
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
            if "volumes" not in document:
                return ImageData.model_validate(document)
            if "images" in document:
                return ImageData.model_validate(_section(document))
        except (ValidationError, yaml.YAMLError) as error:
            raise RecordError(f"{path.name}: {error}") from error
    if (folder / MANIFEST).is_file():
        return _by_manifest(folder)
    raise DatasetError(
        f"{name}: nothing says what is in this folder; add {MANIFEST} (file, patient, split, label) "
        f"or describe it in models/records/data/{name}.yaml"
    )


def _section(document: dict[str, Any]) -> dict[str, Any]:
    """The section on pictures of a description of volumes, with what both share and the fixed split."""
    shared = {key: document[key] for key in SHARED_KEYS if key in document}
    roles = {volume["file"]: volume["role"] for volume in document["volumes"]}
    return {**shared, "roles": roles, **document["images"]}


def _by_manifest(folder: Path) -> ImageData:
    """The description of a folder that has only a manifest: what the manifest's columns say."""
    with (folder / MANIFEST).open(encoding="utf-8-sig", newline="") as file:
        header = set(next(csv.reader(file), []))
    return ImageData(
        name=folder.resolve().name,
        description=f"folder with {MANIFEST}",
        modality="not stated",
        licence="not stated",
        group="normals of the folder",
        files=TableLayout(
            layout="table",
            label="{label}",
            finding="{finding}" if "finding" in header else "",
            lesion="{lesion}" if "lesion" in header else "",
            numbers=("age",) if "age" in header else (),
        ),
        contract=ImageContract(size=(96, 96), steps=(PercentileScale(),), mask="content"),
    )
