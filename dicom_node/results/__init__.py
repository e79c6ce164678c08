"""Result objects for the archive: SEG, secondary capture, structured report, and what sites ask for besides.

A result is a pure function of its `ResultContext`: the same context gives the same bytes on every machine
(I4), and everything that could change them changes their UIDs too.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from dicom_node.kinds import DEFAULT_KINDS, ResultKind, RetractionKind
from dicom_node.results.context import ResultContext
from dicom_node.results.fractional_segmentation import build_fractional_segmentation
from dicom_node.results.key_objects import build_key_objects
from dicom_node.results.label_map import build_label_map
from dicom_node.results.parametric_map import build_parametric_map
from dicom_node.results.presentation import build_presentation
from dicom_node.results.report import build_report
from dicom_node.results.retraction import Retraction, retracting_picture, retracting_report
from dicom_node.results.secondary_capture import build_secondary_capture
from dicom_node.results.segmentation import build_segmentation

__all__ = [
    "DEFAULT_KINDS",
    "RESULT_BUILDERS",
    "BuiltResult",
    "ResultBuilder",
    "ResultContext",
    "ResultKind",
    "Retraction",
    "build_results",
    "build_retraction",
    "encode",
]

ResultBuilder = Callable[[ResultContext], Dataset | None]
"""Builds one object, or None where the context gives no such object."""

RESULT_BUILDERS: Final[Mapping[ResultKind, ResultBuilder]] = MappingProxyType(
    {
        ResultKind.SEGMENTATION: build_segmentation,
        ResultKind.FRACTIONAL_SEGMENTATION: build_fractional_segmentation,
        ResultKind.LABEL_MAP: build_label_map,
        ResultKind.PARAMETRIC_MAP: build_parametric_map,
        ResultKind.SECONDARY_CAPTURE: build_secondary_capture,
        ResultKind.REPORT: build_report,
        ResultKind.KEY_OBJECTS: build_key_objects,
        ResultKind.PRESENTATION: build_presentation,
    }
)


@dataclass(frozen=True, slots=True)
class BuiltResult:
    """One result object.

    Attributes
    ----------
    kind : str
        As in `ResultKind` or `RetractionKind`.
    dataset : Dataset
        With file meta information.
    """

    kind: str
    dataset: Dataset


def build_results(context: ResultContext) -> tuple[BuiltResult, ...]:
    """Every result object of a context, in the order in which they are sent.

    Parameters
    ----------
    context : ResultContext

    Returns
    -------
    tuple of BuiltResult
        Of the kinds the context asks for, those it gives: no segmentation where no voxel reaches a band, no
        parametric map where there is no frame of reference. Not assessable: the report, and before it a
        picture of words where pictures of an earlier score are to be superseded.
    """
    return tuple(
        BuiltResult(kind.value, dataset)
        for kind, build in RESULT_BUILDERS.items()
        if (kind in context.kinds or _is_due(context, kind)) and (dataset := build(context)) is not None
    )


def build_retraction(retraction: Retraction) -> tuple[BuiltResult, ...]:
    """Objects that take earlier results back, in the order in which they are sent.

    The picture is among them where there are pictures to take back.
    """
    report = BuiltResult(RetractionKind.REPORT.value, retracting_report(retraction))
    if retraction.shown_as is None:
        return (report,)
    return (BuiltResult(RetractionKind.PICTURE.value, retracting_picture(retraction)), report)


def _is_due(context: ResultContext, kind: ResultKind) -> bool:
    """Whether a kind that is not wanted has to say that earlier pictures hold no longer."""
    return kind is ResultKind.SECONDARY_CAPTURE and context.scores is None and context.shown_as is not None


def encode(dataset: Dataset) -> bytes:
    """Part 10 file of a result; equal data sets give equal bytes."""
    target = io.BytesIO()
    dcmwrite(target, dataset, enforce_file_format=True)
    return target.getvalue()
