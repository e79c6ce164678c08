"""Structured report of an assessment: TID 1500 in Comprehensive 3D SR (PS3.3 A.35.13, PS3.16)."""

from highdicom.sr import (
    AlgorithmIdentification,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
)
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from dicom_node.identity import MANUFACTURER
from dicom_node.kinds import ResultKind
from dicom_node.results import codes
from dicom_node.results.context import ResultContext, series_uid
from dicom_node.results.documents import Reference, complete_report, hierarchy, name_predecessor, observer
from dicom_node.results.envelope import envelope, is_referable
from dicom_node.results.findings import band_groups, study_group
from dicom_node.results.segmentation import has_segmentation, segmentation_uid


def build_report(context: ResultContext) -> Dataset:
    """SR with the score and its meaning, or with the coded reason why there is none.

    Parameters
    ----------
    context : ResultContext

    Returns
    -------
    Dataset
        Complete, unverified and preliminary: no person has seen it. Without scores it holds no number at all.
    """
    algorithm = _algorithm(context)
    with_segments = has_segmentation(context)
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer(context)),
        procedure_reported=codes.IMAGING_PROCEDURE,
        imaging_measurements=[
            study_group(context, algorithm),
            *band_groups(context, algorithm, with_segments=with_segments),
        ],
        title=codes.REPORT_TITLE,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(codes.ENGLISH),
    )[0]
    result = envelope(context, ResultKind.REPORT, Comprehensive3DSRStorage, "SR")
    complete_report(content, result)
    evidence = _evidence(context, with_segments=with_segments)
    if evidence:
        result.CurrentRequestedProcedureEvidenceSequence = [hierarchy(context.study_uid, evidence)]
    if context.predecessor_sr is not None:
        name_predecessor(result, context.predecessor_sr)
    return result


def _algorithm(context: ResultContext) -> AlgorithmIdentification:
    """Which model, calibration and configuration spoke, and when (I10)."""
    model = context.model
    return AlgorithmIdentification(
        name=model.name,
        version=model.version,
        manufacturer=MANUFACTURER,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        parameters=[
            f"model_sha256 = {model.sha256}",
            f"calibration_sha256 = {model.calibration_sha256}",
            f"calibrated_on = {model.calibrated_on.isoformat()}",
            f"reference_group = {model.group}; n = {model.n}",
            f"configuration = {context.config_digest}",
            f"run_at = {context.run_at.isoformat()}",
        ],
    )


def _evidence(context: ResultContext, *, with_segments: bool) -> list[Reference]:
    """Series, class and instance of everything that was looked at or is referred to."""
    evidence = [
        (str(source.SeriesInstanceUID), str(source.SOPClassUID), str(source.SOPInstanceUID))
        for source in context.sources
        if is_referable(source)
    ]
    if with_segments:
        instance = segmentation_uid(context)
        evidence.append((series_uid(instance), SegmentationStorage, instance))
    return evidence
