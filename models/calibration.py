"""Study score → p-value and normality percentile against a named group of normals.

Split-conformal: p = (1 + number of reference scores at or above the study's) / (n + 1). If the study
comes from the same population as the reference group, P(p <= alpha) <= alpha. Nothing is extrapolated:
a tail model needs thirty exceedances, so with fewer the smallest p is 1 / (n + 1) and stays there.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.artefact import CALIBRATION, Artefact, PictureArtefact
from models.errors import ArtefactError
from models.scores import ModelIdentity

SMALLEST_MAXIMUM = 1e-9  # Of a map that is 0 in every normal.
ABOVE_A_THIRD = 0.333334  # Of the display; a map that only touches the limit stays below it.
SMALL_GROUP = 50  # Below this many reference studies the group is marked as small (methods, section 6).


class Calibration(BaseModel):
    """Content of ``calibration.json``.

    Attributes
    ----------
    group : str
        The reference group, in words.
    calibrated_on : date
    scores : tuple of float
        Study scores of the reference studies, ascending; one a person.
    levels : dict of str to float
        Per member of the combined map: the study score that normals reach on average. Divides the member.
    display_max : float
        Value of the combined map shown as 1.
    bands : tuple of three float
        Thresholds on the displayed map, ascending, 0 to 1.
    band_rule : str
        How the bands were found.
    """

    # A score that is no number is above every study's: it would make all of them normal.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1]
    group: str
    calibrated_on: date
    scores: Annotated[tuple[float, ...], Field(min_length=1)]
    levels: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)]
    display_max: Annotated[float, Field(gt=0)]
    bands: tuple[float, float, float]
    band_rule: str

    @model_validator(mode="after")
    def _is_ordered(self) -> "Calibration":
        if list(self.scores) != sorted(self.scores):
            raise ValueError("scores must ascend")
        low, middle, high = self.bands
        if not 0 < low < middle < high <= 1:
            raise ValueError("bands must ascend within 0 to 1")
        return self

    @property
    def n(self) -> int:
        """Studies in the reference group."""
        return len(self.scores)

    @property
    def is_small(self) -> bool:
        """Fewer reference studies than a percentile deserves; said wherever it is shown."""
        return self.n < SMALL_GROUP

    def p_value(self, score: float) -> float:
        """Split-conformal p of one study score, in [1 / (n + 1), 1]."""
        return conformal_p(self.scores, score)


def conformal_p(reference: Sequence[float], score: float) -> float:
    """(1 + number of ``reference`` at or above ``score``) / (n + 1)."""
    return float(conformal_p_values(np.sort(reference), score))


def conformal_p_values(reference: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """``conformal_p`` of many scores, of the shape of ``scores``.

    Parameters
    ----------
    reference : float, shape (n,)
        Ascending.
    scores : float
    """
    values = np.asarray(reference, dtype=np.float64)
    above = values.size - np.searchsorted(values, np.asarray(scores, dtype=np.float64), side="left")
    return np.asarray((1 + above) / (values.size + 1), dtype=np.float64)


def read_calibration(path: Path) -> Calibration:
    """The calibration of an artefact.

    Raises
    ------
    ArtefactError
        If the file is missing or not valid.
    """
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtefactError(path, f"cannot be read ({error.strerror}); restore it") from error
    except ValidationError as error:
        raise ArtefactError(path, f"is not a valid calibration: {error.errors()[0]['msg']}") from error


def identify(artefact: Artefact | PictureArtefact, calibration: Calibration) -> ModelIdentity:
    """Who speaks, and against whom: what stands beside every number (design I10).

    Parameters
    ----------
    artefact : Artefact or PictureArtefact
    calibration : Calibration
        The artefact's own.
    """
    return ModelIdentity(
        name=artefact.manifest.name,
        version=artefact.manifest.version,
        sha256=artefact.sha256,
        calibration_sha256=artefact.manifest.files[CALIBRATION],
        calibrated_on=calibration.calibrated_on,
        group=calibration.group,
        n=calibration.n,
        disclaimer=artefact.manifest.disclaimer,
    )


def family_limit(maxima: Sequence[float], alpha: float) -> tuple[float, float]:
    """Map value above which a normal of the same population has any voxel with a chance of at most ``alpha``.

    The conformal quantile of the highest value of each map: a bound on all voxels of a study at once, with
    no assumption on how they hang together (max statistic: Westfall, Young 1993; Nichols, Hayasaka 2003).

    Parameters
    ----------
    maxima : sequence of float
        Highest value of the map, one a normal study.
    alpha : float
        Family-wise rate that is wanted.

    Returns
    -------
    limit : float
        A study is highlighted where a voxel is above it.
    rate : float
        That holds: at most ``alpha``, or 1 / (n + 1) where that is more.
    """
    ordered = np.sort(maxima)
    allowed = max(1, int(alpha * (len(ordered) + 1) + 1e-9))  # the rounding of 0.05 * 20 is no lost study
    return float(ordered[-allowed]), allowed / (len(ordered) + 1)


def find_bands(
    maxima: Sequence[float], alpha: float | None = None
) -> tuple[float, tuple[float, float, float], str]:
    """Display maximum and three bands from the highest map value of each normal.

    The lowest band starts just above the highest value that normals show, but for a share ``alpha`` of
    them; the others start at 1.5 and 2 times that value, and the display ends at 3 times. Without
    ``alpha`` the lowest band starts at the highest value any normal shows, so a normal of the same
    population has a highlighted voxel with a chance of about 1 / (n + 1).

    Parameters
    ----------
    maxima : sequence of float
        Highest value of the combined map, one a normal study.
    alpha : float, optional
        Chance that a normal has any highlighted voxel.

    Returns
    -------
    display_max : float
    bands : tuple of three float
        As shares of ``display_max``.
    rule : str
        The sentence stored beside them.
    """
    if alpha is not None:
        limit, rate = family_limit(maxima, alpha)
        rule = (
            f"lowest band: at most {rate:.3g} of normals have any voxel in it, by the highest map values of "
            f"{len(maxima)}; middle and highest band: 1.5 and 2 times, display maximum: 3 times that value"
        )
        return 3 * limit, (ABOVE_A_THIRD, 0.5, round(2 / 3, 6)), rule
    highest = float(np.max(maxima))
    rule = (
        f"lowest band: highest map value of {len(maxima)} normals; middle and highest band: 1.5 and 2 times, "
        "display maximum: 3 times that value"
    )
    return 3 * highest, (round(1 / 3, 6), 0.5, round(2 / 3, 6)), rule


def calibrate_pictures(
    group: str, scores: Sequence[float], maxima: Sequence[float], *, made_on: date
) -> Calibration:
    """The calibration of a model of pictures.

    Parameters
    ----------
    group : str
        The reference group, in words.
    scores : sequence of float
        Study scores of people the model was neither trained nor chosen on.
    maxima : sequence of float
        Highest map value of normals, one a study; empty for a method without a map.
    made_on : date
    """
    highest = [max(value, SMALLEST_MAXIMUM) for value in maxima] or [1.0]
    display_max, bands, rule = find_bands(highest)
    return Calibration(
        format=1,
        group=group,
        calibrated_on=made_on,
        scores=tuple(sorted(scores)),
        levels={"picture": 1.0},
        display_max=display_max,
        bands=bands,
        band_rule=rule if maxima else "the method has no map",
    )
