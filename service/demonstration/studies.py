"""The demonstration studies: DICOM series written from the open volumes beside this file.

Fifteen studies of fifteen invented patients. Sex and age are those of the volunteers, as the data sets state
them; names and numbers are made up, and a synthetic lesion is said to be one in Series Description.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import numpy as np

from dicom_node.writer import Patient, Plane, Protocol, Study, as_acquired, write_series
from models.evaluation.dataset import read_nifti
from models.evaluation.lesions import add_lesion
from models.volume import Volume
from service import __version__

VOLUMES: Final = Path(__file__).resolve().parent / "volumes"
INDEX = "studies.json"
STORED_PER_UNIT = 8  # the volumes hold 8 bits; a scanner stores 12, and a lesion fades in steps finer than 1
FIRST_AT: Final = datetime(2026, 1, 12, 8, 0, tzinfo=UTC)
PAUSE: Final = timedelta(minutes=20)

Label = Literal["normal", "synthetic", "lesion", "not_assessable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstrationStudy:
    """One study, written to disk.

    Attributes
    ----------
    label : str
        What it shows: normal, synthetic, lesion or not_assessable.
    title : str
        The same for people; no two studies share one.
    study_uid : str
    paths : tuple of Path
        In the order of acquisition.
    """

    label: Label
    title: str
    study_uid: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volunteer:
    """Whose volume it is, as far as the data set says.

    Attributes
    ----------
    file : str
        In `VOLUMES`.
    scanner : str
        Name of the data set: the scanner is not stated.
    derivation : str
        What the publisher did to the pixels.
    sex : str
    age_years : int or None
    """

    file: str
    scanner: str = "OpenNeuro ds002748"
    derivation: str = "Skull-stripped by the publisher, resampled to 2 mm"
    sex: str = ""
    age_years: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """A lesion to put into a normal volume; the seed draws its place."""

    diameter_mm: float
    contrast_sd: float
    seed: int

    @property
    def shade(self) -> str:
        """Dark or bright."""
        return "dark" if self.contrast_sd < 0 else "bright"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one study is made.

    Attributes
    ----------
    label, title : str
        As in `DemonstrationStudy`.
    family_name : str
        Invented.
    volunteer : Volunteer
    description : str
        Series Description.
    plane : str
        Plane of the slices.
    is_reversed : bool
        Slices in the other order.
    lesion : Lesion, optional
    scout : bool
        The three middle slices alone, as a localiser.
    blank : bool
        All pixels zero, as from a scan that failed.
    """

    label: Label
    title: str
    family_name: str
    volunteer: Volunteer
    description: str = "T1 3D"
    plane: Plane = "axial"
    is_reversed: bool = False
    lesion: Lesion | None = None
    scout: bool = False
    blank: bool = False


# The subjects held apart in models/records/data/brain-mri-t1.yaml, in its order.
HELD_APART: Final = (
    Volunteer(file="ds002748_sub-06_T1w.nii.gz", sex="M", age_years=42),
    Volunteer(file="ds002748_sub-14_T1w.nii.gz", sex="F", age_years=30),
    Volunteer(file="ds002748_sub-23_T1w.nii.gz", sex="F", age_years=55),
    Volunteer(file="ds002748_sub-32_T1w.nii.gz", sex="F", age_years=28),
    Volunteer(file="ds002748_sub-59_T1w.nii.gz", sex="F", age_years=24),
    Volunteer(file="ds002748_sub-71_T1w.nii.gz", sex="F", age_years=47),
)
WITH_SCLEROSIS: Final = Volunteer(
    file="cross_patient26_T1.nii.gz",
    scanner="open_ms_data",
    derivation="Skull-stripped, bias-corrected and put on a 1 mm grid by the publisher",
)

# How the head was scanned: plane and slice order.
ACQUISITIONS: Final[tuple[tuple[Plane, bool], ...]] = (
    ("axial", False),
    ("sagittal", False),
    ("coronal", True),
    ("axial", True),
    ("sagittal", True),
    ("coronal", False),
)
LESIONS: Final = (
    Lesion(diameter_mm=25, contrast_sd=-2, seed=1),
    Lesion(diameter_mm=25, contrast_sd=2, seed=2),
    Lesion(diameter_mm=30, contrast_sd=-2, seed=3),
    Lesion(diameter_mm=30, contrast_sd=2, seed=4),
    Lesion(diameter_mm=20, contrast_sd=-2, seed=5),
    Lesion(diameter_mm=20, contrast_sd=2, seed=6),
)
NORMAL_NAMES: Final = ("Wren", "Heron", "Plover", "Lapwing", "Dunlin", "Curlew")
LESION_NAMES: Final = ("Alder", "Rowan", "Hazel", "Linden", "Aspen", "Juniper")


def plans() -> tuple[Plan, ...]:
    """Return how each study is made, in the order in which they are sent."""
    normals = [
        Plan(
            label="normal",
            title=f"Normal {number}, {plane}",
            family_name=name,
            volunteer=volunteer,
            plane=plane,
            is_reversed=is_reversed,
        )
        for number, (name, volunteer, (plane, is_reversed)) in enumerate(
            zip(NORMAL_NAMES, HELD_APART, ACQUISITIONS, strict=True), start=1
        )
    ]
    synthetic = [
        Plan(
            label="synthetic",
            title=f"Synthetic lesion, {lesion.diameter_mm:g} mm, {lesion.shade}",
            family_name=name,
            volunteer=volunteer,
            description=f"T1 SYNTHETIC LESION {lesion.diameter_mm:g} mm {lesion.contrast_sd:+g} SD",
            plane=plane,
            is_reversed=is_reversed,
            lesion=lesion,
        )
        for name, volunteer, lesion, (plane, is_reversed) in zip(
            LESION_NAMES, HELD_APART, LESIONS, reversed(ACQUISITIONS), strict=True
        )
    ]
    others = [
        Plan(
            label="lesion",
            title="Multiple sclerosis, small lesions",
            family_name="Sorrel",
            volunteer=WITH_SCLEROSIS,
            plane="sagittal",
        ),
        Plan(
            label="not_assessable",
            title="Localiser alone",
            family_name="Teasel",
            volunteer=HELD_APART[1],
            description="Localizer 3 plane",
            scout=True,
        ),
        Plan(
            label="not_assessable",
            title="All pixels zero",
            family_name="Yarrow",
            volunteer=HELD_APART[0],
            blank=True,
        ),
    ]
    # As a day at the scanner would bring them: every kind of study among the others.
    mixed = [plan for pair in zip(normals, synthetic, strict=True) for plan in pair]
    return (*mixed[:5], others[0], *mixed[5:9], others[1], *mixed[9:], others[2])


def write_studies(folder: Path) -> tuple[DemonstrationStudy, ...]:
    """Write the demonstration studies, or leave them where they are written and intact.

    Parameters
    ----------
    folder : Path
        Made where it is missing. Everything else in it is left alone.

    Returns
    -------
    tuple of DemonstrationStudy
        In the order in which they are to be sent. The same bytes every time.
    """
    numbered = list(enumerate(plans(), start=1))
    index = folder / INDEX
    if not _is_intact(folder, index):
        index.unlink(missing_ok=True)
        for number, plan in numbered:
            shutil.rmtree(_study_folder(folder, number), ignore_errors=True)
            _write(folder, number, plan)
        digests = {str(path.relative_to(folder)): _sha256(path) for path in _files(folder)}
        draft = index.with_suffix(".draft")
        draft.write_text(json.dumps({"made_from": _origin(), "files": digests}, indent=0) + "\n")
        draft.replace(index)
    return tuple(
        DemonstrationStudy(
            label=plan.label,
            title=plan.title,
            study_uid=_study(number, plan).uid,
            paths=tuple(sorted(_study_folder(folder, number).iterdir())),
        )
        for number, plan in numbered
    )


def _is_intact(folder: Path, index: Path) -> bool:
    """Whether this version wrote the folder and every file is as it was."""
    if not index.is_file():
        return False
    try:
        known = json.loads(index.read_text())
        files = dict(known["files"])
        is_ours = known["made_from"] == _origin()
    except (ValueError, KeyError, TypeError):
        return False
    found = {str(path.relative_to(folder)): path for path in _files(folder)}
    return (
        is_ours
        and found.keys() == files.keys()
        and all(_sha256(path) == files[name] for name, path in found.items())
    )


def _files(folder: Path) -> Iterator[Path]:
    for number, _ in enumerate(plans(), start=1):
        study = _study_folder(folder, number)
        if study.is_dir():
            yield from sorted(study.iterdir())


def _origin() -> str:
    """Return the version and a hash of the source volumes: what the studies are made from."""
    digest = hashlib.sha256()
    for path in sorted(VOLUMES.glob("*.nii.gz")):
        digest.update(path.read_bytes())
    return f"{__version__} {digest.hexdigest()}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _study_folder(folder: Path, number: int) -> Path:
    return folder / f"study-{number:02d}"


def _study(number: int, plan: Plan) -> Study:
    return Study(
        name=f"demonstration {plan.family_name}",
        started_at=FIRST_AT + (number - 1) * PAUSE,
        description="Brain MRI, demonstration",
        study_id=str(number),
        accession_number=f"DEMO{number:04d}",
    )


def _write(folder: Path, number: int, plan: Plan) -> None:
    volume = _scanned(plan)
    study = _study(number, plan)
    patient = _patient(number, plan, study.started_at.date())
    protocol = _protocol(plan)
    stacks = (
        _scouts(volume) if plan.scout else [as_acquired(volume, plan.plane, is_reversed=plan.is_reversed)]
    )
    first = 1
    for stack in stacks:
        first += len(
            write_series(
                stack,
                _study_folder(folder, number),
                patient=patient,
                study=study,
                protocol=protocol,
                first_number=first,
            )
        )


def _scanned(plan: Plan) -> Volume:
    """Return the volume in the scanner's units, with what the plan puts into it."""
    volume = read_nifti(VOLUMES / plan.volunteer.file)
    if plan.lesion is not None:
        volume, _ = add_lesion(
            volume,
            diameter_mm=plan.lesion.diameter_mm,
            contrast_sd=plan.lesion.contrast_sd,
            seed=plan.lesion.seed,
        )
    return replace(volume, voxels=volume.voxels * np.float32(0 if plan.blank else STORED_PER_UNIT))


def _scouts(volume: Volume) -> list[Volume]:
    """Return the middle slice of each plane, each a volume of its own."""
    planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
    scouts = []
    for plane in planes:
        stack = as_acquired(volume, plane)
        middle = len(stack.voxels) // 2
        affine = stack.affine.copy()
        affine[:3, 3] += middle * affine[:3, 0]
        scouts.append(replace(stack, voxels=stack.voxels[middle : middle + 1], affine=affine))
    return scouts


def _patient(number: int, plan: Plan, on: date) -> Patient:
    age = plan.volunteer.age_years
    return Patient(
        name=f"{plan.family_name}^Demonstration",
        patient_id=f"DEMO-{number:02d}",
        sex=plan.volunteer.sex,
        birth_date=None if age is None else date(on.year - age, 1, 1),
    )


def _protocol(plan: Plan) -> Protocol:
    derivation = plan.volunteer.derivation
    if plan.lesion is not None:
        derivation += (
            f"; synthetic lesion of {plan.lesion.diameter_mm:g} mm added, "
            f"{plan.lesion.contrast_sd:+g} standard deviations of the brain"
        )
    if plan.blank:
        derivation += "; all pixels set to zero"
    return Protocol(
        description=plan.description,
        image_type=("DERIVED", "PRIMARY", "LOCALIZER" if plan.scout else "OTHER"),
        derivation=derivation,
        manufacturer="Open data",
        model_name=plan.volunteer.scanner,
    )
