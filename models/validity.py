"""May this volume be scored at all? Every refusal carries a coded reason.

The limits are the artefact's own (``Applicability`` in its manifest); this file only knows how to measure.
"""

import re

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.artefact import Applicability, SeriesRules
from models.errors import NotAssessableError, Reason
from models.preprocess import BRAIN_SHARE, Seen, clean_voxels, extent_mm, survey, tissue_mask
from models.scratch import slabs
from models.volume import Acquisition, Volume

MOST_CLIPPED = 0.05  # Of the tissue at its highest value. Scaling to the 99.8th percentile clips a hundredth.
MOST_CLIPPED_FIELD = 0.5  # Of a whole picture at its highest value; what is there may be air or a frame.
LEAST_TEXT_SLICES = 16  # Fewer may hold the same thing by chance.
LEAST_TEXT_PIXELS = 24  # Of strokes: two small characters.
TEXT_LEVEL = 0.5  # Of the highest value; text is written to be seen.
STROKE = 5  # Pixels; what is wider is no writing.
SURVEY_ML = 2.0**3 / 1000  # One voxel of the survey grid.
MAX_FIELD_MM = 600.0  # Wider than any head scan; bounds the memory of the survey whatever a header claims.
CONTRAST_MARK = re.compile(r"\+ ?C(?![A-Z0-9])|C\+(?![A-Z0-9])")  # "T1 +C", "T1 C+": with contrast agent.
EXACT_SHARE = 1e-3  # Of the tissue's 98th percentile; below it a voxel counts as exact background.


def check_acquisition(acquisition: Acquisition, applicability: SeriesRules) -> None:
    """Pass, or say why a series so acquired is outside the model card.

    Raises
    ------
    NotAssessableError
        WRONG_MODALITY, WRONG_BODY_PART, LOCALISER, DERIVED, WRONG_SEQUENCE, WRONG_AGE, LOSSY or BURNED_IN.
    """
    a = applicability
    if acquisition.modality != a.modality:
        raise NotAssessableError(Reason.WRONG_MODALITY, f"The model reads {a.modality} alone.")
    types = {value.upper() for value in acquisition.image_type}
    written = acquisition.description.upper()
    description = "_".join([*re.split(r"[^A-Z0-9]+", written), ""])
    if "LOCALIZER" in types or re.search(r"(^|_)(LOCALI[SZ]ER|SCOUT)", description):
        raise NotAssessableError(Reason.LOCALISER, "The series is a localiser.")
    if types & set(a.refused_image_types):
        raise NotAssessableError(Reason.DERIVED, "The series is a reformat, projection or computed map.")
    if acquisition.body_part and a.body_parts and acquisition.body_part not in a.body_parts:
        raise NotAssessableError(
            Reason.WRONG_BODY_PART, f"The model reads {' or '.join(a.body_parts)} alone."
        )
    if any(re.search(rf"(^|_){re.escape(word)}", description) for word in a.refused_words):
        raise NotAssessableError(Reason.WRONG_SEQUENCE, "The series description names another sequence.")
    has_contrast = acquisition.contrast_agent or CONTRAST_MARK.search(written) is not None
    if has_contrast and not a.accepts_contrast:
        raise NotAssessableError(Reason.WRONG_SEQUENCE, "The model was made without contrast agent.")
    low, high = a.age_years
    if acquisition.age_years is not None and not low <= acquisition.age_years <= high:
        raise NotAssessableError(Reason.WRONG_AGE, f"The model was made for {low:g} to {high:g} years.")
    if acquisition.is_lossy and not a.accepts_lossy:
        raise NotAssessableError(Reason.LOSSY, "The pixels went through lossy compression.")
    if acquisition.is_burned_in:
        raise NotAssessableError(Reason.BURNED_IN, "Text is burned into the pixels.")


def check_pixels(cleaned: NDArray[np.float32]) -> None:
    """Pass, or say what is wrong with the pixels of any series, whatever the model.

    Parameters
    ----------
    cleaned : float32, shape (slices, rows, columns)
        As of ``clean_voxels``: background 0.

    Raises
    ------
    NotAssessableError
        BLANK_SLICES, CLIPPED or BURNED_IN.
    """
    filled = np.flatnonzero([plane.any() for plane in cleaned])
    blank = 0 if filled.size == 0 else int(filled[-1] - filled[0] + 1 - filled.size)
    if blank:
        raise NotAssessableError(Reason.BLANK_SLICES, f"{blank} slices inside the stack hold nothing.")
    highest = cleaned.max()
    clipped = sum(int((cleaned[part] == highest).sum()) for part in slabs(cleaned.shape)) / cleaned.size
    if clipped > MOST_CLIPPED_FIELD:
        raise NotAssessableError(
            Reason.CLIPPED, f"{100 * clipped:.0f} % of the pixels are at the highest value."
        )
    if _text_pixels(cleaned) >= LEAST_TEXT_PIXELS:
        raise NotAssessableError(
            Reason.BURNED_IN, "The same bright strokes lie on every slice, as writing does."
        )


def _text_pixels(cleaned: NDArray[np.float32]) -> int:
    """Pixels of bright strokes that are the same on every slice: a screen's text, whatever the header.

    Tissue differs from slice to slice at least by its noise.
    """
    if len(cleaned) < LEAST_TEXT_SLICES:
        return 0
    lowest, highest = cleaned.min(axis=0), cleaned.max(axis=0)
    same = (lowest == highest) & (lowest > TEXT_LEVEL * highest.max())
    return int((same & ~ndimage.binary_opening(same, np.ones((STROKE, STROKE), dtype=np.bool_))).sum())


def check_volume(volume: Volume, applicability: Applicability) -> Seen:
    """Pass, with what was made on the way, or say why these voxels are outside the model card.

    Raises
    ------
    NotAssessableError
        CONSTANT_PIXELS, BLANK_SLICES, CLIPPED, BURNED_IN, TOO_FEW_SLICES, NOT_SKULL_STRIPPED or WRONG_EXTENT.
    """
    a = applicability
    cleaned = clean_voxels(volume)  # Raises CONSTANT_PIXELS before anything else is measured.
    check_pixels(cleaned)
    if volume.voxels.shape[0] < a.min_slices:
        raise NotAssessableError(
            Reason.TOO_FEW_SLICES, f"{volume.voxels.shape[0]} slices; the model needs {a.min_slices}."
        )
    if max(volume.spacing_mm) > a.max_spacing_mm:
        raise NotAssessableError(
            Reason.WRONG_EXTENT,
            f"Voxels are {max(volume.spacing_mm):.1f} mm apart; {a.max_spacing_mm:g} mm is the most.",
        )
    edges_mm = np.linalg.norm(volume.affine[:3, :3], axis=0) * volume.voxels.shape
    if float(np.linalg.norm(edges_mm)) > MAX_FIELD_MM:
        raise NotAssessableError(
            Reason.WRONG_EXTENT, f"The field is {np.linalg.norm(edges_mm):.0f} mm from corner to corner."
        )
    voxels, affine = survey(volume, cleaned)
    tissue = tissue_mask(voxels)
    if not tissue.any():
        raise NotAssessableError(Reason.CONSTANT_PIXELS, "No tissue stands above the background.")
    clipped = _clipped_share(cleaned)
    if clipped > MOST_CLIPPED:
        raise NotAssessableError(
            Reason.CLIPPED, f"{100 * clipped:.0f} % of the tissue are at the highest value."
        )
    volume_ml = float(tissue.sum()) * SURVEY_ML
    share = _foreground_share(voxels, tissue)
    if volume_ml > a.tissue_ml[1] or share > a.max_foreground_share:
        raise NotAssessableError(
            Reason.NOT_SKULL_STRIPPED,
            f"Tissue of {volume_ml:.0f} ml fills {100 * share:.0f} % of its box: more than a brain alone.",
        )
    if volume_ml < a.tissue_ml[0]:
        raise NotAssessableError(Reason.WRONG_EXTENT, f"Tissue of {volume_ml:.0f} ml is less than a brain.")
    low, high = extent_mm(tissue, affine)
    limits = {"width": a.width_mm, "length": a.length_mm, "height": a.height_mm}
    for (name, (least, most)), start, stop in zip(limits.items(), low, high, strict=True):
        if not least <= stop - start <= most:
            raise NotAssessableError(
                Reason.WRONG_EXTENT,
                f"Brain {name} is {stop - start:.0f} mm; the model was made for {least:g} to {most:g} mm.",
            )
    return Seen(cleaned=cleaned, overview=voxels, affine=affine)


def _clipped_share(cleaned: NDArray[np.float32]) -> float:
    """Share of what is brighter than a tenth of the highest value that is at that value."""
    highest = float(cleaned.max())
    at, above = 0, 0
    for part in slabs(cleaned.shape):
        at += int((cleaned[part] >= highest).sum())
        above += int((cleaned[part] > BRAIN_SHARE * highest).sum())
    return at / above


def _foreground_share(voxels: NDArray[np.float32], tissue: NDArray[np.bool_]) -> float:
    """Share of the tissue's bounding box that is not exact background.

    A stripped brain fills about half of its box and leaves zeros; air around a head carries noise.
    """
    box = ndimage.find_objects(tissue.astype(np.int8))[0]
    return float((voxels[box] > EXACT_SHARE * np.percentile(voxels[tissue], 98)).mean())
