"""Voxels with geometry, and what is known of how they were acquired."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.errors import GeometryError
from models.scratch import IN_MEMORY, Scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Voxels of one series on a regular grid.

    Attributes
    ----------
    voxels : float32, shape (slices, rows, columns)
        Modality units after rescale (HU for CT; arbitrary for MR).
    spacing_mm : tuple of float
        Distance between voxel centres along (slices, rows, columns).
    affine : float64, shape (4, 4)
        Voxel index (slice, row, column) to patient millimetres, LPS.
    padding : bool, shape (slices, rows, columns), optional
        True where the scanner wrote its padding value: no measurement.
    scratch : Scratch
        Where arrays of this size are kept.

    Raises
    ------
    GeometryError
        If the array is not three-dimensional, a spacing is not positive or the affine is singular.
    """

    voxels: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    padding: NDArray[np.bool_] | None = None
    scratch: Scratch = IN_MEMORY

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3:  # noqa: PLR2004 - a volume has three axes
            raise GeometryError(f"voxels have {self.voxels.ndim} axes, expected 3")
        if not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise GeometryError(f"spacing {self.spacing_mm} mm is not positive")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise GeometryError("affine is not a finite 4 by 4 matrix")
        if abs(float(np.linalg.det(self.affine[:3, :3]))) < 1e-9:  # noqa: PLR2004 - cubic millimetres
            raise GeometryError("affine is singular")
        if self.padding is not None and self.padding.shape != self.voxels.shape:
            raise GeometryError(f"padding {self.padding.shape} does not match voxels {self.voxels.shape}")

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in cubic millimetres."""
        return float(np.prod(self.spacing_mm))


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """How a series was made, as far as a model may ask. Free of identity.

    Attributes
    ----------
    modality : str
        DICOM Modality (0008,0060), upper case.
    body_part : str
        Body Part Examined (0018,0015), upper case; empty where unstated.
    description : str
        Series Description (0008,103E), which may say the sequence.
    manufacturer, model_name : str
        Of the scanner.
    age_years : float or None
        Patient's age at the study, where stated.
    contrast_agent : bool
        A contrast bolus agent is stated.
    is_lossy : bool
        Lossy compression at any time (0028,2110).
    is_burned_in : bool
        Burned In Annotation (0028,0301) is YES.
    image_type : tuple of str
        Image Type (0008,0008).
    """

    modality: str
    body_part: str = ""
    description: str = ""
    manufacturer: str = ""
    model_name: str = ""
    age_years: float | None = None
    contrast_agent: bool = False
    is_lossy: bool = False
    is_burned_in: bool = False
    image_type: tuple[str, ...] = field(default=())
