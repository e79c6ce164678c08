"""Studies of a folder that a CSV table lists: pictures, volumes and npz stacks."""

import csv
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.images.description import ImageData, TableLayout
from models.images.files import (
    as_brightness,
    npz_names,
    read_arrays,
    read_image,
    read_nifti,
)
from models.images.sources import TRAIN, Role, Source, check_sides, is_wanted, picture_label
from models.images.volumes import axial_slices
from models.volume import Volume

LARGEST_ROWS = 1_000_000
FIRST_ROW = 2  # As a spreadsheet counts: the header is row 1.

Row = dict[str, str]
VolumeReader = Callable[[Path], Volume]


def from_table(
    folder: Path,
    data: ImageData,
    layout: TableLayout,
    splits: Collection[str] | None,
    read_folder: VolumeReader | None,
) -> Iterator[Source]:
    """Studies in the order of the table, one Source a row.

    Raises
    ------
    DatasetError
        If the table lacks a column, a row names no file, a file twice, an impossible label or number, or a
        patient is on both sides of the split. All rows are checked before the first file is opened.
    """
    rows = _read_table(folder / layout.table, layout)
    chosen: list[tuple[str, Row, str, Role | None]] = []
    for where, row in rows:
        role = data.roles.get(layout.file.format_map(row))
        if role is None or role == "test":
            chosen.append((where, row, layout.split.format_map(row), None))
        elif role != "not_assessable":
            chosen.append((where, row, TRAIN, role))
    check_sides(
        ((where, layout.patient.format_map(row), split) for where, row, split, _ in chosen), layout.table
    )
    files: dict[str, str] = {}
    for where, row, split, _ in chosen:
        name = layout.file.format_map(row)
        if files.setdefault(name, where) != where:
            raise DatasetError(f"{layout.table}: {files[name]} and {where} name the same file")
        _inside(folder, name, f"{layout.table}, {where}")
        if not split:
            raise DatasetError(f"{layout.table}, {where}: no split; write train, or the name of the part")
        picture_label(layout.label.format_map(row), f"{layout.table}, {where}")
    stems = Counter(_stem(name) for name in files)
    for where, row, split, role in chosen:
        if is_wanted(split, splits):
            name = layout.file.format_map(row)
            # One name in two folders is two studies.
            study = _stem(name) if stems[_stem(name)] == 1 else name
            yield _source(folder, layout, row, f"{layout.table}, {where}", study, split, role, read_folder)


def _stem(name: str) -> str:
    """Name of a file without its folder and its endings."""
    return Path(name).name.partition(".")[0]


def _read_table(path: Path, layout: TableLayout) -> list[tuple[str, Row]]:
    """Rows that are to be read, each with its number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            missing = sorted(layout.columns() - set(header))
            if missing:
                raise DatasetError(f"{path.name}: no column {missing[0]}; it has {', '.join(header)}")
            rows: list[tuple[str, Row]] = []
            for number, row in enumerate(reader, start=FIRST_ROW):
                if number > LARGEST_ROWS:
                    raise DatasetError(f"{path.name}: more than {LARGEST_ROWS} rows")
                if None in row or None in row.values():
                    raise DatasetError(f"{path.name}, row {number}: not as many fields as the header")
                if all(row[column] == value for column, value in layout.where.items()):
                    rows.append((f"row {number}", {key: value.strip() for key, value in row.items()}))
    except FileNotFoundError as error:
        raise DatasetError(f"{path.name}: no such file in {path.parent.name}; restore it") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path.name}: cannot be read as CSV in UTF-8 ({type(error).__name__})") from error
    if not rows:
        raise DatasetError(f"{path.name}: no row to read")
    return rows


def _source(
    folder: Path,
    layout: TableLayout,
    row: Row,
    where: str,
    study: str,
    split: str,
    role: Role | None,
    read_folder: VolumeReader | None,
) -> Source:
    """The study of one row."""
    path = _inside(folder, layout.file.format_map(row), where)
    pixels, lesions, is_stack = _read(path, layout, where, read_folder)
    if layout.lesion and (name := layout.lesion.format_map(row)):
        lesions = _read_lesions(_inside(folder, name, where), pixels.shape)
    label, finding = _finding(layout, row, where)
    count = len(pixels)
    labels: list[int | None] = [label] * count
    if lesions is not None and (is_stack or label is None):
        if label == 0 and lesions.any():
            raise DatasetError(
                f"{where}: labelled normal, but {path.name} has a lesion mask that is not empty"
            )
        labels = [int(plane.any()) for plane in lesions]
    numbers = {name: _number(row[name], f"{where}, {name}") for name in layout.numbers if row[name]}
    size = layout.original_shape
    return Source(
        pixels=pixels,
        is_stack=is_stack,
        patients=[layout.patient.format_map(row)] * count,
        studies=[study] * count,
        labels=labels,
        findings=[finding if is_abnormal else "" for is_abnormal in labels],
        split=split,
        roles=[role] * count,
        lesions=lesions,
        original_shape=size and (int(_number(row[size[0]], where)), int(_number(row[size[1]], where))),
        is_left_eye=bool(layout.left_eye) and all(row[c] == value for c, value in layout.left_eye.items()),
        numbers=numbers,
    )


def _read(
    path: Path, layout: TableLayout, where: str, read_folder: VolumeReader | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, bool]:
    """Pixels, lesions if the same file has them, and whether it is a stack."""
    name = path.name.lower()
    if path.is_dir():
        if read_folder is None:
            raise DatasetError(f"{where}: {path.name} is a folder, which cannot be read here")
        return axial_slices(read_folder(path)), None, True
    if name.endswith((".png", ".jpg", ".jpeg")):
        return read_image(path), None, False
    if name.endswith((".nii", ".nii.gz")):
        return read_nifti(path), None, True
    if name.endswith(".npz"):
        return *_read_stack(path, layout), True
    raise DatasetError(f"{where}: {path.name} is neither PNG, JPEG, NIfTI, npz nor a folder")


def _read_stack(path: Path, layout: TableLayout) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Slices of an npz file in the order of their numbers, and their lesions where it has them."""
    present = npz_names(path)
    optional = tuple(name for name in (layout.mask, layout.order) if name in present)
    arrays = read_arrays(path, (layout.image, *optional))
    images = arrays[layout.image]
    if images.ndim != 3 or 0 in images.shape:  # noqa: PLR2004 - a stack
        raise DatasetError(
            f"{path.name}: {layout.image} has shape {images.shape}, not (slices, rows, columns)"
        )
    order = np.arange(len(images))
    if layout.order in arrays:
        numbers = arrays[layout.order]
        if numbers.shape != (len(images),):
            raise DatasetError(
                f"{path.name}: {layout.order} has shape {numbers.shape} for {len(images)} slices"
            )
        order = np.argsort(numbers, kind="stable")
    lesions = None
    if layout.mask in arrays:
        lesions = _unpacked(arrays[layout.mask], images.shape, path)[order]
    return as_brightness(images[order][:, None], path), lesions


def _unpacked(mask: NDArray[np.generic], shape: tuple[int, ...], path: Path) -> NDArray[np.bool_]:
    """A lesion mask of the images' shape, whether its bits are packed along the columns or not."""
    if mask.shape == shape:
        return np.asarray(mask != 0)
    if mask.dtype == np.uint8 and mask.shape == (*shape[:2], -(-shape[2] // 8)):
        return np.unpackbits(np.asarray(mask, dtype=np.uint8), axis=-1, count=shape[2]).astype(np.bool_)
    raise DatasetError(f"{path.name}: a mask of shape {mask.shape} does not fit images of {shape}")


def _read_lesions(path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A lesion mask file on the grid of its picture."""
    name = path.name.lower()
    values = read_nifti(path) if name.endswith((".nii", ".nii.gz")) else read_image(path)
    if (values.shape[0], *values.shape[2:]) != (shape[0], *shape[2:]):
        raise DatasetError(f"{path.name}: a mask of shape {values.shape} does not fit a picture of {shape}")
    return np.asarray(values.max(axis=1) > 0)


def _finding(layout: TableLayout, row: Row, where: str) -> tuple[int | None, str]:
    """Label and finding of a row."""
    label = picture_label(layout.label.format_map(row), where)
    finding = layout.finding.format_map(row)
    if layout.findings:
        if finding not in layout.findings:
            raise DatasetError(f"{where}: finding {finding!r} is not one of {', '.join(layout.findings)}")
        finding = layout.findings[finding]
        if label is None:
            label = int(bool(finding))
        if label != int(bool(finding)):
            raise DatasetError(f"{where}: label {label} contradicts finding {finding or 'none'!r}")
    return label, finding or "abnormal"


def _inside(folder: Path, name: str, where: str) -> Path:
    """A path of a row, which must lie inside the folder."""
    path = folder / name
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise DatasetError(f"{where}: {name!r} is not a file inside the data folder")
    if not path.exists():
        raise DatasetError(f"{where}: no file {name}; restore it or take the row out")
    return path


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise DatasetError(f"{where}: {text!r} is not a number") from error
    if not np.isfinite(value):
        raise DatasetError(f"{where}: {text!r} is not a finite number")
    return value
