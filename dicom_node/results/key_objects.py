"""Key object selection: the images that hold the highest peaks (PS3.3 A.35.4, TID 2010)."""

from highdicom.sr import (
    ContainerContentItem,
    ContentSequence,
    ImageContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node.kinds import ResultKind
from dicom_node.results import codes
from dicom_node.results.context import ResultContext
from dicom_node.results.documents import hierarchy, observer, plant
from dicom_node.results.envelope import envelope
from dicom_node.results.sources import key_images

_TEMPLATE = "2010"
_DESCRIPTION = "Images with the highest values of an unsupervised anomaly map. Not for diagnostic use."


def build_key_objects(context: ResultContext) -> Dataset | None:
    """Document titled "Of Interest" that names at most five images or frames.

    Parameters
    ----------
    context : ResultContext

    Returns
    -------
    Dataset or None
        None where no voxel reaches the lowest band, for nothing is of interest then, and where no source can
        be referred to as an image.
    """
    if context.scores is None or not (context.scores.map >= context.scores.bands[0]).any():
        return None
    images = key_images(context)
    if not images:
        return None
    content = ContainerContentItem(name=codes.OF_INTEREST, template_id=_TEMPLATE)
    content.ContentSequence = ContentSequence(
        [
            *observer(context),
            TextContentItem(
                name=codes.KEY_OBJECT_DESCRIPTION,
                value=_DESCRIPTION,
                relationship_type=RelationshipTypeValues.CONTAINS,
            ),
            *(
                ImageContentItem(
                    name=codes.SOURCE,
                    referenced_sop_class_uid=image.sop_class,
                    referenced_sop_instance_uid=image.sop_instance,
                    referenced_frame_numbers=None if image.frame is None else [image.frame],
                    relationship_type=RelationshipTypeValues.CONTAINS,
                )
                for image in images
            ),
        ]
    )
    result = envelope(context, ResultKind.KEY_OBJECTS, KeyObjectSelectionDocumentStorage, "KO")
    del result.ContentQualification  # no attribute of this class
    plant(content, result)
    result.ReferencedPerformedProcedureStepSequence = []
    series = str(context.sources[0].SeriesInstanceUID)
    named = dict.fromkeys((series, image.sop_class, image.sop_instance) for image in images)
    result.CurrentRequestedProcedureEvidenceSequence = [hierarchy(context.study_uid, named)]
    return result
