"""What readers taught, as files that the training tools read: no name, no note, no reader.

``feedback.jsonl`` holds the last word on every judged study. With volumes, ``manifest.csv`` lists those that
a training can use, beside their voxels and, of findings, where the map stood out: a pseudo-label that a
person confirmed (Baur's dissertation, section 3.5). A person is on one side of the split, with all they have.
"""

import csv
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.images.description import MANIFEST
from service.errors import StorageError, TriageError
from service.store.objects import LocalObjects
from service.store.verdicts import Taught
from service.study import Verdict

FEEDBACK: Final = "feedback.jsonl"
COLUMNS: Final = ("file", "patient", "split", "label", "finding", "lesion")
TESTED: Final = 0.2  # of the people, kept out of training
SEED: Final = "vigil split 1"
LABELS: Final[dict[Verdict, int]] = {  # other verdicts say nothing of whether the patient is normal
    Verdict.CONFIRMED_FINDING: 1,
    Verdict.OTHER_CONDITION: 1,
    Verdict.FALSE_ALARM: 0,
}
DISPUTED, NO_LABEL, NO_IMAGES, UNREADABLE = "disputed", "no_label", "no_images", "unreadable"
MOST_HEADER: Final = 4096  # bytes of a map besides its voxels, of one byte each
FROM_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])


class NotEmptyError(TriageError):
    """The folder of an export must be new or empty, so that no study of another one is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What an export holds.

    Attributes
    ----------
    studies, people : int
    volumes : int
        Rows of the manifest.
    pseudo_labels : int
        Volumes with a mask of where the finding is.
    left_out : dict of str to int
        Why judged studies are no rows of the manifest.
    """

    studies: int
    people: int
    volumes: int
    pseudo_labels: int
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Where volumes and maps come from.

    Attributes
    ----------
    volume : callable
        Id of a score and the series it scored, to its volume as a compressed NIfTI-1, in parts.
    objects : LocalObjects
        Maps.
    """

    volume: Callable[[int, str], Iterable[bytes]]
    objects: LocalObjects


def export(taught: Sequence[Taught], out: Path, *, images: Images | None = None) -> Taken:
    """Write what readers taught to a folder.

    Parameters
    ----------
    taught : sequence of Taught
    out : Path
        Made if need be.
    images : Images, optional
        Write volumes and pseudo-labels too.

    Raises
    ------
    NotEmptyError
        If something is in the folder.
    """
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(out.iterdir()):
        raise NotEmptyError(NotEmptyError.__doc__)
    people = people_of(taught)
    with (out / FEEDBACK).open("w", encoding="utf-8") as file:
        for one in taught:
            file.write(json.dumps(_line(one, people[one.key]), sort_keys=True) + "\n")
    left_out: Counter[str] = Counter()
    rows: list[dict[str, str]] = []
    if images is not None:
        rows = list(_rows(taught, people, out, images, left_out))
        with (out / MANIFEST).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return Taken(
        studies=len(taught),
        people=len(set(people.values())),
        volumes=len(rows),
        pseudo_labels=sum(bool(row["lesion"]) for row in rows),
        left_out=dict(left_out.most_common()),
    )


def people_of(taught: Iterable[Taught]) -> dict[str, str]:
    """Pseudonym of the person of each study.

    Studies are one person's where they state the same id, or the same name and birth date: better two people
    on one side of a split than one on both. Who states nothing is a person of their own.
    """
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents.setdefault(name, name) != name:
            name = parents[name]
        return name

    keys = []
    for one in taught:
        keys.append(one.key)
        for mark in _marks(one.patients):
            first, second = sorted((root(f"study {one.key}"), root(mark)))
            parents[second] = first
    members: dict[str, list[str]] = {}
    for name in sorted(parents):
        members.setdefault(root(name), []).append(name)
    return {
        key: hashlib.sha256("\n".join(members.get(root(f"study {key}"), [key])).encode()).hexdigest()[:16]
        for key in keys
    }


def split_of(person: str) -> str:
    """Side of the split a person is on, by their pseudonym alone."""
    drawn = int.from_bytes(hashlib.sha256(f"{SEED} {person}".encode()).digest()[:8], "big") / 2**64
    return "test" if drawn < TESTED else "train"


def _marks(patients: Iterable[str]) -> Iterable[str]:
    """What says who a person is: the id, and name with birth date (`service.intake`)."""
    for stated in patients:
        number, birth, name = (*stated.split("."), "", "", "")[:3]
        if number:
            yield f"id {number}"
        if birth and name:
            yield f"name {birth} {name}"


def _line(one: Taught, person: str) -> dict[str, object]:
    judged = asdict(one.judged)
    return {
        "key": one.key,
        "patient": person,
        "split": split_of(person),
        **judged,
        "region": one.region,
        "slice_index": one.slice_index,
        "regions": list(one.regions),
        "study_score": one.study_score,
        "model_hash": one.model_hash,
        "calibration_hash": one.calibration_hash,
        "instances": one.instances,
    }


def _rows(
    taught: Iterable[Taught], people: Mapping[str, str], out: Path, images: Images, left_out: Counter[str]
) -> Iterable[dict[str, str]]:
    """Write volumes; one row for each study that a training can use, by the newest score said anything of."""
    done: set[str] = set()
    for one in taught:
        label = LABELS.get(one.judged.verdict)
        if one.key in done:
            continue
        if one.judged.is_disputed:
            left_out[DISPUTED] += 1
        elif label is None:
            left_out[NO_LABEL] += 1
        elif one.score_id is None or not one.scored_series:
            left_out[NO_IMAGES] += 1
        else:
            try:
                lesion = _write(one, one.score_id, out, images, has_lesion=bool(label))
            except StorageError:
                left_out[UNREADABLE] += 1
                continue
            done.add(one.key)
            person = people[one.key]
            yield {
                "file": f"{one.key}.nii.gz",
                "patient": person,
                "split": split_of(person),
                "label": str(label),
                "finding": one.judged.verdict.value if label else "",
                "lesion": lesion,
            }


def _write(one: Taught, score_id: int, out: Path, images: Images, *, has_lesion: bool) -> str:
    """Write the scored series, and the mask of a finding; return the mask's name, empty where none is."""
    parts = images.volume(score_id, one.scored_series)
    with (out / f"{one.key}.nii.gz").open("wb") as file:
        file.writelines(parts)
    if not has_lesion or one.map is None or not one.map.curve.bands:
        return ""
    with (
        images.objects.local(one.map.path, one.map.sha256, one.map.bytes) as path,
        gzip.open(path) as file,
    ):
        content = file.read(one.map.voxels + MOST_HEADER)
    found = nibabel.Nifti1Image.from_bytes(content)
    values = np.asarray(found.dataobj, dtype=np.float32)
    mask = values > one.map.curve.bands[0]
    if one.region is not None and one.region < len(one.regions):
        mask = _part_at(mask, found.affine, one.regions[one.region]["centre_mm"])
    if not mask.any():
        return ""
    name = f"{one.key}-finding.nii.gz"
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), found.affine), out / name)
    return name


def _part_at(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], centre_mm: Sequence[float]
) -> NDArray[np.bool_]:
    """The connected part of a mask that is nearest to a point.

    Parameters
    ----------
    mask : bool, shape (columns, rows, slices)
    affine : float64, shape (4, 4)
        Of NIfTI: to millimetres, RAS.
    centre_mm : sequence of float
        LPS.
    """
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    places = np.argwhere(mask)
    millimetres = (FROM_RAS @ affine @ np.c_[places, np.ones(len(places))].T)[:3].T
    nearest = places[np.linalg.norm(millimetres - np.asarray(centre_mm), axis=1).argmin()]
    return np.asarray(parts == parts[tuple(nearest)])
