"""Label map segmentation: the highest band of every voxel (DICOM Supplement 243)."""

import numpy as np
from highdicom.seg import SegmentationTypeValues
from pydicom.dataset import Dataset
from pydicom.uid import UID, RLELossless

from dicom_node.kinds import ResultKind
from dicom_node.results import codes
from dicom_node.results.context import ResultContext
from dicom_node.results.segmentation import band_masks, describe, has_region, make_segmentation

LABEL_MAP_CLASS = UID("1.2.840.10008.5.1.4.1.1.66.7")  # Label Map Segmentation Storage


def build_label_map(context: ResultContext) -> Dataset | None:
    """SEG object whose pixels are 0 outside all bands, else the number of the highest band reached.

    Parameters
    ----------
    context : ResultContext

    Returns
    -------
    Dataset or None
        None where no voxel reaches the lowest band or the sources have no frame of reference. Its segments do
        not overlap, so they are others than the nested ones and have tracking UIDs of their own.
    """
    if context.scores is None or not has_region(context):
        return None
    kind = ResultKind.LABEL_MAP
    return make_segmentation(
        context,
        kind,
        band_masks(context.scores).sum(axis=0, dtype=np.uint8),
        [
            describe(
                context,
                index + 1,
                label=codes.ONLY_LABELS[index],
                tracking=(f"anomaly-band-{index + 1}-only", context.uid(f"{kind.value}-tracking-{index}")),
                threshold=threshold,
            )
            for index, threshold in enumerate(context.scores.bands)
        ],
        segmentation_type=SegmentationTypeValues.LABELMAP,
        content="Highest band of an anomaly map in each voxel",
        sop_class=LABEL_MAP_CLASS,
        syntax=RLELossless,
    )
