"""FRACTIONAL segmentation: the anomaly map inside its lowest band (PS3.3 C.8.20.2.3).

For destinations that show graded segments but no parametric map. Outside the lowest band all is 0: a viewer
that outlines everything above nothing must not outline the whole organ.
"""

import numpy as np
from highdicom.seg import SegmentationTypeValues
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from dicom_node.kinds import ResultKind
from dicom_node.results.context import ResultContext
from dicom_node.results.segmentation import describe, has_region, make_segmentation


def build_fractional_segmentation(context: ResultContext) -> Dataset | None:
    """SEG object with one segment of map values, 0 to 1 in 255 steps.

    Parameters
    ----------
    context : ResultContext

    Returns
    -------
    Dataset or None
        None where no voxel reaches the lowest band or the sources have no frame of reference.
    """
    scores = context.scores
    if scores is None or not has_region(context):
        return None
    inside = scores.map >= scores.bands[0]
    kind = ResultKind.FRACTIONAL_SEGMENTATION
    made = make_segmentation(
        context,
        kind,
        np.where(inside, np.clip(scores.map, 0.0, 1.0), 0.0).astype(np.float32),
        [
            describe(
                context,
                1,
                label="Anomaly map inside band 1",
                tracking=("anomaly-map", context.uid(f"{kind.value}-tracking")),
                threshold=scores.bands[0],
            )
        ],
        segmentation_type=SegmentationTypeValues.FRACTIONAL,
        content="Anomaly map 0 to 1, a rank of unusualness and not a probability",
        syntax=RLELossless,
    )
    _name_the_segment_in_every_frame(made)
    return made


def _name_the_segment_in_every_frame(made: Dataset) -> None:
    """Move Segment Identification to the frames: many readers look nowhere else."""
    (shared,) = made.SharedFunctionalGroupsSequence
    if "SegmentIdentificationSequence" not in shared:
        return
    identification = shared.SegmentIdentificationSequence
    del shared.SegmentIdentificationSequence
    for frame in made.PerFrameFunctionalGroupsSequence:
        frame.SegmentIdentificationSequence = identification
