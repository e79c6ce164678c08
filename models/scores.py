"""What a model says about one volume."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from models.errors import NoNumberError
from models.scratch import slabs


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model spoke, and against whom it was calibrated (design I10).

    Attributes
    ----------
    name, version : str
        As in the artefact's manifest.
    sha256 : str
        Hash over the artefact's manifest, network and calibration, hexadecimal.
    calibration_sha256 : str
        Hash of ``calibration.json``.
    calibrated_on : date
        Day the calibration was made.
    group : str
        Reference group the percentile refers to.
    n : int
        Studies in that group.
    disclaimer : str
        The sentence every output carries.
    """

    name: str
    version: str
    sha256: str
    calibration_sha256: str
    calibrated_on: date
    group: str
    n: int
    disclaimer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One connected set of voxels above the lowest band's threshold.

    Attributes
    ----------
    volume_mm3 : float
    peak, mean : float
        Of the map inside the region, 0 to 1.
    centre_mm : tuple of float
        Centre of mass in patient millimetres, LPS.
    slice_index : int
        Slice (index along the volume's first axis) that holds the peak.
    """

    volume_mm3: float
    peak: float
    mean: float
    centre_mm: tuple[float, float, float]
    slice_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How unusual one volume is, and where.

    Attributes
    ----------
    study_score : float
        Raw anomaly score, higher is more abnormal. Orders equal percentiles.
    p_value : float
        Split-conformal p against the reference group, in (0, 1].
    heads : dict of str to float
        Raw score of each member of the model, higher is more abnormal.
    map : float32, shape (slices, rows, columns)
        Anomaly per voxel on the grid of the source, 0 to 1 (the display maximum of the calibration).
    bands : tuple of three float
        Ascending thresholds on ``map`` of the three nested bands, versioned in the calibration.
    regions : tuple of Region
        Components above the lowest band, largest peak first; empty if there are none.
    model : ModelIdentity
    peak : float or None
        Highest value of the map before it was scaled for display: what a pixel calibration is made of.
    tail : float or None
        Estimated share of normals that score higher, at most ``p_value``, where the reference is large enough
        and the score is in its highest tenth. It orders equal percentiles and is shown to nobody.

    Raises
    ------
    NoNumberError
        If a value of the map or a score is not finite: compared with a reference group it would pass for the
        calmest study, or for the most unusual one.
    """

    study_score: float
    p_value: float
    heads: dict[str, float]
    map: NDArray[np.float32]
    bands: tuple[float, float, float]
    regions: tuple[Region, ...]
    model: ModelIdentity
    peak: float | None = None
    tail: float | None = None

    def __post_init__(self) -> None:
        numbers = (
            self.study_score,
            self.p_value,
            *self.heads.values(),
            *filter(None, (self.peak, self.tail)),
        )
        if not np.isfinite(numbers).all() or not all(
            np.isfinite(self.map[part]).all() for part in slabs(self.map.shape)
        ):
            raise NoNumberError(NoNumberError.__doc__)

    @property
    def percentile(self) -> float:
        """Normality percentile, 100 p: low is unusual."""
        return 100.0 * self.p_value

    @property
    def order(self) -> tuple[float, float, float]:
        """Most unusual first when sorted ascending: by p, then by the tail, then by the raw score."""
        return self.p_value, self.p_value if self.tail is None else self.tail, -self.study_score
