"""Rows of synthetic anomalies: categories of the MOOD report and sweeps, made of a part's own normals.

They say what a model can and cannot see where no label says it. They are not disease.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from models.evaluation.metrics import average_precision
from models.evaluation.picture_baselines import Scorer
from models.evaluation.picture_rows import Rowing
from models.evaluation.pixels import PixelPool
from models.evaluation.rows import Row
from models.evaluation.scoring import Scored, score
from models.images.anomalies import CATEGORIES
from models.images.collection import Collection
from models.images.picture import Picture
from models.images.toys import TOYS, categories, corrupted, sweep, untouched

MOST_STUDIES = 64  # Of single pictures; evenly taken.
MOST_STACKS = 6
SWEEPS: tuple[Literal["intensity", "radius"], ...] = ("intensity", "radius")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeps:
    """How much is made.

    Attributes
    ----------
    studies, stacks : int
        Normal pictures, or stacks with normal slices, that anomalies are put into.
    with_sweeps : bool
        Whether intensity and radius are swept.
    """

    studies: int = MOST_STUDIES
    stacks: int = MOST_STACKS
    with_sweeps: bool = True


def synthetic_rows(
    rowing: Rowing, collection: Collection, scorers: Mapping[str, Scorer], amount: Sweeps
) -> list[Row]:
    """AP of images or slices and of pixels, per category and along the sweeps.

    Findings are ``local: <category>``, ``global: <category>``, ``intensity=<value>`` and
    ``radius=<value>``. Each mixes corrupted studies with the same studies untouched.

    Parameters
    ----------
    rowing : Rowing
        Of the part whose normals are used.
    collection : Collection
    scorers : dict of str to callable
        By name; the empty name is the model.
    amount : Sweeps
    """
    normals = _some_normals(collection, rowing.split, amount)
    if not normals:
        return []
    clean = untouched(collection, normals)
    before = {name: score(clean, clean.of_split(TOYS), scorer) for name, scorer in scorers.items()}
    rows: list[Row] = []
    for category in categories(collection):
        made = corrupted(collection, normals, seed=rowing.seed, category=category)
        finding = f"{CATEGORIES[category].scope}: {category}"
        rows += _rows_of(rowing, finding, made, before, scorers)
    for over in SWEEPS if amount.with_sweeps else ():
        for value, made in sweep(collection, normals, over=over, seed=rowing.seed):
            rows += _rows_of(rowing, f"{over}={value:g}", made, before, scorers)
    return rows


def _rows_of(
    rowing: Rowing,
    finding: str,
    made: Collection,
    before: Mapping[str, Scored],
    scorers: Mapping[str, Scorer],
) -> list[Row]:
    rows = []
    for name, scorer in scorers.items():
        own = replace(rowing, scorer=name)
        after, clean = score(made, made.of_split(TOYS), scorer), before[name]
        labels = np.array([picture.label == 1 for picture in (*clean.pictures, *after.pictures)])
        scores = np.concatenate([clean.scores, after.scores])
        rows.append(own.row(finding, "synthetic_ap", average_precision(labels, scores), len(labels)))
        if not name:
            rows.append(own.row(finding, "synthetic_prevalence", float(labels.mean()), len(labels)))
        if after.maps is not None and any(picture.lesion is not None for picture in after.pictures):
            pool = PixelPool()
            for patient, maps, lesions in (*clean.native(), *after.native()):
                pool.add(patient, maps, lesions)
            value = pool.curve().average_precision
            rows.append(own.row(finding, "synthetic_pixel_ap", value, len(pool.patients)))
    return [row for row in rows if np.isfinite(row.value)]


def _some_normals(collection: Collection, split: str, amount: Sweeps) -> tuple[Picture, ...]:
    """Normal pictures with something to see, of evenly taken studies."""
    normals = [p for p in collection.of_split(split) if p.label == 0 and p.mask.any()]
    studies = sorted({picture.study for picture in normals})
    is_stack = any(picture.index > 0 for picture in collection.pictures)
    most = amount.stacks if is_stack else amount.studies
    places = np.unique(np.linspace(0, len(studies) - 1, min(len(studies), most)).round()) if studies else ()
    kept = {studies[int(place)] for place in places}
    return tuple(picture for picture in normals if picture.study in kept)
