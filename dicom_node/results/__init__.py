"""Result objects for the archive: SEG, secondary capture, structured report.

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

from dicom_node.results.codes import ResultKind
from dicom_node.results.context import ResultContext
from dicom_node.results.report import build_report
from dicom_node.results.secondary_capture import build_secondary_capture
from dicom_node.results.segmentation import build_segmentation

__all__ = [
    "RESULT_BUILDERS",
    "BuiltResult",
    "ResultBuilder",
    "ResultContext",
    "ResultKind",
    "build_results",
    "encode",
]

ResultBuilder = Callable[[ResultContext], Dataset | None]
"""Builds one object, or None where the context gives no such object."""

RESULT_BUILDERS: Final[Mapping[ResultKind, ResultBuilder]] = MappingProxyType(
    {
        ResultKind.SEGMENTATION: build_segmentation,
        ResultKind.SECONDARY_CAPTURE: build_secondary_capture,
        ResultKind.REPORT: build_report,
    }
)


@dataclass(frozen=True, slots=True)
class BuiltResult:
    """One result object.

    Attributes
    ----------
    kind : str
        As in `ResultKind`.
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
        Scored: SEG where a voxel reaches a band, secondary capture, report. Not assessable: the report alone.
    """
    return tuple(
        BuiltResult(kind.value, dataset)
        for kind, build in RESULT_BUILDERS.items()
        if (dataset := build(context)) is not None
    )


def encode(dataset: Dataset) -> bytes:
    """Part 10 file of a result; equal data sets give equal bytes."""
    target = io.BytesIO()
    dcmwrite(target, dataset, enforce_file_format=True)
    return target.getvalue()
