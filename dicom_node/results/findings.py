"""Measurement groups of the report: one for the study, one for every band with voxels (TID 1501, 1411)."""

from typing import TypeAlias

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    Measurement,
    MeasurementProperties,
    MeasurementsAndQualitativeEvaluations,
    MeasurementStatisticalProperties,
    NumContentItem,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from dicom_node.results import codes
from dicom_node.results.context import ResultContext
from dicom_node.results.segmentation import (
    segment_tracking_id,
    segment_tracking_uid,
    segmentation_uid,
)
from dicom_node.results.sources import has_scale, is_placed, key_images
from models.scores import ModelIdentity, Scores
from models.volume import Volume

_CM3_PER_MM3 = 1e-3

Group: TypeAlias = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def study_group(context: ResultContext, algorithm: AlgorithmIdentification) -> Group:
    """Group of the whole study: score and percentile, or the reason why there are none."""
    scores = context.scores
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=context.uid("sr-tracking"), identifier="anomaly-study"),
        algorithm_id=algorithm,
        measurements=None if scores is None else _study_measurements(scores),
        qualitative_evaluations=_evaluations(context),
        source_images=_key_slices(context),
    )
    statements = _not_assessed(context) if scores is None else _scored(scores)
    add_text(
        group,
        [
            *((codes.STATEMENT, statement) for statement in statements),
            (codes.NOTICE, codes.DISCLAIMER),
            (codes.NOTICE, context.model.disclaimer),
        ],
    )
    return group


def band_groups(
    context: ResultContext, algorithm: AlgorithmIdentification, *, with_segments: bool
) -> list[Group]:
    """Group of each band that holds a voxel.

    Parameters
    ----------
    context : ResultContext
    algorithm : AlgorithmIdentification
    with_segments : bool
        Refer to the segments of the SEG; where there is none the numbers stand alone.
    """
    if context.scores is None or context.volume is None:
        return []
    groups: list[Group] = []
    for index, band in enumerate(context.scores.bands):
        values = np.concatenate([plane[plane >= band] for plane in context.scores.map]).astype(np.float64)
        if not values.size:
            continue
        common = {
            "tracking_identifier": TrackingIdentifier(
                uid=segment_tracking_uid(context, index), identifier=segment_tracking_id(index)
            ),
            "finding_category": codes.ABNORMAL_STRUCTURE,
            "finding_type": codes.ANOMALOUS_REGION,
            "algorithm_id": algorithm,
            "measurements": [
                Measurement(codes.BAND_THRESHOLD, float(context.scores.bands[index]), codes.NO_UNITS),
                *_size(context, context.volume, values.size),
                _map_value(codes.MAXIMUM, float(values.max())),
                _map_value(codes.MEAN, float(values.mean())),
            ],
        }
        if with_segments:
            groups.append(
                VolumetricROIMeasurementsAndQualitativeEvaluations(
                    referenced_segment=_segment(context, index), **common
                )
            )
        else:
            groups.append(MeasurementsAndQualitativeEvaluations(**common))
    return groups


def _size(context: ResultContext, volume: Volume, voxels: int) -> list[Measurement]:
    """Volume of so many voxels; of a projection the area; nothing where the source states no scale."""
    if is_placed(context):
        return [Measurement(codes.VOLUME, voxels * volume.voxel_mm3 * _CM3_PER_MM3, codes.CUBIC_CENTIMETRE)]
    if not has_scale(context):
        return []
    _, row_mm, column_mm = volume.spacing_mm
    return [Measurement(codes.AREA, voxels * row_mm * column_mm, codes.SQUARE_MILLIMETRE)]


def _map_value(derivation: Code, value: float) -> Measurement:
    return Measurement(codes.ANOMALY_MAP_VALUE, value, codes.NO_UNITS, derivation=derivation)


def _segment(context: ResultContext, index: int) -> ReferencedSegment:
    return ReferencedSegment(
        sop_class_uid=SegmentationStorage,
        sop_instance_uid=segmentation_uid(context),
        segment_number=index + 1,
        source_series=SourceSeriesForSegmentation(str(context.sources[0].SeriesInstanceUID)),
    )


def _study_measurements(scores: Scores) -> list[Measurement]:
    ranking = NumContentItem(
        name=codes.PERCENTILE_RANKING,
        value=100.0 * (1.0 - scores.p_value),
        unit=codes.PERCENT,
        relationship_type=RelationshipTypeValues.HAS_PROPERTIES,
    )
    properties = MeasurementProperties(
        normality=codes.NORMALITY_UNDETERMINED,
        measurement_statistical_properties=MeasurementStatisticalProperties(
            values=[ranking], description=_population(scores.model)
        ),
    )
    return [
        Measurement(codes.ANOMALY_SCORE, scores.study_score, codes.NO_UNITS, properties=properties),
        Measurement(codes.NORMALITY_PERCENTILE, scores.percentile, codes.PERCENT),
        Measurement(codes.P_VALUE, scores.p_value, codes.NO_UNITS),
    ]


def _population(model: ModelIdentity) -> str:
    words = f"Reference group: {model.group}; n = {model.n}."
    return f"{words} {_small_group(model)}" if model.n < codes.SMALL_GROUP else words


def _small_group(model: ModelIdentity) -> str:
    lowest = 100.0 / (model.n + 1)  # split-conformal p cannot be smaller
    return (
        f"The reference group is small (n = {model.n}, below {codes.SMALL_GROUP}): "
        f"no percentile below {lowest:.1f} can occur, and neighbouring ranks are uncertain."
    )


def _evaluations(context: ResultContext) -> list[QualitativeEvaluation]:
    """Normality is undetermined whatever the score: a diagnosis is not a machine's to state (I7)."""
    evaluations = [
        QualitativeEvaluation(codes.NORMALITY, codes.NORMALITY_UNDETERMINED),
        QualitativeEvaluation(
            codes.ASSESSMENT, codes.NOT_ASSESSABLE if context.scores is None else codes.SCORED
        ),
    ]
    if context.reason is not None:
        evaluations.append(QualitativeEvaluation(codes.REASON, codes.REASONS[context.reason]))
    return evaluations


def _scored(scores: Scores) -> list[str]:
    model = scores.model
    ranking = 100.0 * (1.0 - scores.p_value)
    statements = [
        f"Normality percentile {scores.percentile:.1f} (100 p; low is unusual).",
        f"Percentile ranking of the anomaly score {ranking:.1f} (100 (1 - p); high is unusual).",
        f"Reference group: {model.group}; n = {model.n}.",
    ]
    if model.n < codes.SMALL_GROUP:
        statements.append(_small_group(model))
    if not any((plane >= scores.bands[0]).any() for plane in scores.map):
        statements.append(codes.NO_REGION)
    return statements


def _not_assessed(context: ResultContext) -> list[str]:
    details = [context.detail] if context.detail else []
    superseded = [codes.ALL_SUPERSEDED] if context.predecessor_sr is not None else []
    return [codes.NOT_ASSESSED, *details, *superseded]


def _key_slices(context: ResultContext) -> list[SourceImageForMeasurementGroup] | None:
    return [
        SourceImageForMeasurementGroup(
            referenced_sop_class_uid=image.sop_class,
            referenced_sop_instance_uid=image.sop_instance,
            referenced_frame_numbers=None if image.frame is None else [image.frame],
        )
        for image in key_images(context)
    ] or None


def add_text(group: Group, lines: list[tuple[Code, str]]) -> None:
    """Add statements and notices to a group."""
    for name, words in lines:
        group[0].ContentSequence.append(
            TextContentItem(name=name, value=words, relationship_type=RelationshipTypeValues.CONTAINS)
        )
