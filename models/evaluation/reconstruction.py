"""Rows of reconstructions: how true they are to normals, and whether lesions stay out of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluation.picture_rows import Rowing
from models.evaluation.quality import l1_errors, residual_distance, structural_similarity
from models.evaluation.rows import Row
from models.images.collection import Collection
from models.images.picture import Picture, stack_context
from models.images.predictor import PicturePredictor

RECONSTRUCTION = "reconstruction"


def reconstruction_rows(
    rowing: Rowing, predictor: PicturePredictor, collection: Collection, pictures: Sequence[Picture]
) -> list[Row]:
    """Mean absolute error, SSIM on normals, and the distance of residuals inside and outside lesions.

    Images are means over channels, on the prepared grid for normals and on the native one for lesions.
    Without known lesions there is nothing to say of abnormal pixels.
    """
    if RECONSTRUCTION not in predictor.manifest.outputs:
        return []
    errors, similarities = [], []
    outside: list[NDArray[np.float32]] = []
    inside: list[NDArray[np.float32]] = []
    for slices in collection.studies(pictures).values():
        for picture, seen, shown in zip(slices, *_planes(predictor, slices), strict=True):
            if picture.label == 0:
                similarities.append(structural_similarity(seen, shown))
                residual = np.abs(seen - shown)[picture.mask]
                errors.append((float(residual.mean()) if residual.size else float("nan"), float("nan")))
                outside.append(residual)
            elif picture.lesion is not None and picture.lesion.any():
                first, second = picture.to_native(seen), picture.to_native(shown)
                mask = picture.to_native(picture.mask.astype(np.float32)) >= 0.5  # noqa: PLR2004 - nearest
                errors.append(l1_errors(first, second, mask, picture.lesion))
                inside.append(np.abs(first - second)[mask & picture.lesion])
    rows = []
    for place, name in enumerate(("l1_normal_pixels", "l1_abnormal_pixels")):
        known = [pair[place] for pair in errors if np.isfinite(pair[place])]
        if known:
            rows.append(rowing.row("", name, float(np.mean(known)), len(known)))
    if similarities:
        rows.append(rowing.row("", "ssim_normal", float(np.mean(similarities)), len(similarities)))
    if inside and outside:
        distance = residual_distance(np.concatenate(outside), np.concatenate(inside))
        rows.append(rowing.row("", "chi_squared_residual_distance", distance, len(inside)))
    return [row for row in rows if np.isfinite(row.value)]


def _planes(
    predictor: PicturePredictor, slices: Sequence[Picture]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the network was shown of each slice itself, and its reconstruction, means over channels."""
    contract = predictor.manifest.input
    x = stack_context(slices, contract.context)
    mask = np.stack([picture.mask for picture in slices])[:, None].astype(np.float32)
    position = np.array([picture.position for picture in slices], dtype=np.float32)
    shown = predictor.run(x, mask, position)[RECONSTRUCTION]
    seen = np.stack([picture.pixels for picture in slices])
    if shown.shape[1] == x.shape[1] != seen.shape[1]:
        seen = x
    return (seen * mask).mean(axis=1), (shown * mask).mean(axis=1)
