"""From a study as read to prepared pictures: the one way, in training, evaluation and the service."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.images.contract import ImageContract
from models.images.covariates import measure
from models.images.picture import Picture
from models.images.sources import Source
from models.images.steps import prepare

LEAST_ASSESSED = 0.01  # Share of a slice; the ends of a stack, which hold less, teach nothing.


def pictures_of(source: Source, contract: ImageContract) -> list[Picture]:
    """Prepared pictures of one study, or of one batch of single pictures.

    Parameters
    ----------
    source : Source
        As read; see `models.images.volumes` for volumes that are no files.
    contract : ImageContract

    Returns
    -------
    list of Picture
        One a slice or picture, in the order of the source.

    Raises
    ------
    DatasetError
        If a picture or a whole stack is constant, or has other channels than the contract.
    """
    _check_contrast(source)
    count, _, rows, columns = source.pixels.shape
    if not source.is_stack and count > 1 and (contract.steps or contract.mask != "all"):
        # What a step measures, it measures over the stack; single pictures must not share it.
        return [picture for i in range(count) for picture in pictures_of(_single(source, i), contract)]
    try:
        draft = prepare(
            source.pixels,
            contract,
            original_shape=source.original_shape,
            is_left_eye=source.is_left_eye,
        )
    except ValueError as error:
        raise DatasetError(f"{source.studies[0]}: {error}") from error
    covariates = measure(source.pixels, source.original_shape)
    covariates["assessed"] = draft.mask.mean(axis=(1, 2))
    positions = np.zeros(count)
    if source.is_stack:
        positions = slice_positions(draft.mask)
        covariates["slice_position"] = np.linspace(0, 1, count) if count > 1 else np.full(1, 0.5)
    return [
        Picture(
            pixels=draft.pixels[i],
            mask=draft.mask[i],
            position=float(positions[i]),
            patient=source.patients[i],
            study=source.studies[i],
            index=i if source.is_stack else 0,
            split=source.split,
            label=source.labels[i],
            finding=source.findings[i],
            lesion=None if source.lesions is None else source.lesions[i],
            native_shape=(rows, columns),
            grid=draft.grid,
            covariates={**source.numbers, **{name: float(values[i]) for name, values in covariates.items()}},
        )
        for i in range(count)
    ]


def _single(source: Source, i: int) -> Source:
    """One picture of a batch."""
    here = slice(i, i + 1)
    return replace(
        source,
        pixels=source.pixels[here],
        patients=source.patients[here],
        studies=source.studies[here],
        labels=source.labels[here],
        findings=source.findings[here],
        roles=source.roles[here],
        lesions=None if source.lesions is None else source.lesions[here],
    )


def slice_positions(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Where each slice of a stack lies in the body: -1 in its lowest slice, 1 in its highest.

    Counted over the slices that show something, so that empty ends, of which one scanner stores more than
    another, move nothing; empty slices beyond are at the end they are next to.

    Parameters
    ----------
    mask : bool, shape (slices, rows, columns)
        Of the prepared stack.
    """
    full = np.flatnonzero(mask.mean(axis=(1, 2)) >= LEAST_ASSESSED)
    if len(full) < 2 or full[0] == full[-1]:  # noqa: PLR2004 - one slice has no extent
        return np.zeros(len(mask))
    along = (np.arange(len(mask)) - full[0]) / (full[-1] - full[0])
    return np.asarray(np.clip(2 * along - 1, -1, 1))


def _check_contrast(source: Source) -> None:
    """Refuse a study without contrast. Empty slices at the ends of a stack are as they should be."""
    flat = source.pixels.reshape(1 if source.is_stack else len(source.pixels), -1)
    constant = flat.max(axis=1) == flat.min(axis=1)
    if constant.any():
        study = source.studies[int(np.argmax(constant))]
        raise DatasetError(f"{study}: every pixel has the same value; leave the picture out")
