"""What takes earlier results back where a later score has none: a report that names them, and a picture.

The images of the study may be gone or unreadable. Patient and study are those of the report that is taken
back, which is one of ours.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from highdicom.sr import (
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    QualitativeEvaluation,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, Comprehensive3DSRStorage

from dicom_node.identity import MODEL_NAME, derive_uid
from dicom_node.kinds import RetractionKind
from dicom_node.results import codes
from dicom_node.results.documents import complete_report, name_predecessor, observer_of
from dicom_node.results.envelope import shell
from dicom_node.results.findings import add_text
from dicom_node.results.tile import complete_tile, tile_class
from models.errors import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraction:
    """A score without results, and what is taken back for it; its objects are a function of this alone (I4).

    Attributes
    ----------
    source : Dataset
        Header of the newest report on the study before it that can be read.
    predecessor_sr : tuple of str
        SOP Class and Instance UID of the newest report before it.
    shown_as : str or None
        SOP Class of the pictures that are taken back; None where there are none.
    reason : Reason or None
        Why the study is not assessable; None where scoring failed.
    detail : str
        The reason in words, free of identity.
    model_sha256, config_digest, content_hash : str
        Of the score.
    run_at : datetime
        With time zone. Every date and time in the results is this one.
    software_version : str
        Of Vigil.
    """

    source: Dataset
    predecessor_sr: tuple[str, str]
    shown_as: str | None
    reason: Reason | None
    detail: str
    model_sha256: str
    config_digest: str
    content_hash: str
    run_at: datetime
    software_version: str

    @property
    def code(self) -> Code:
        """Why there is no score."""
        return codes.FAILED_SUPERSEDES if self.reason is None else codes.REASONS[self.reason]

    @property
    def words(self) -> list[str]:
        """Sentences of it, without a number."""
        why = codes.NOT_SCORED if self.reason is None else codes.NOT_ASSESSED
        details = [self.detail] if self.detail else []
        return [f"{self.code.value}: {self.code.meaning}.", *details, why, codes.ALL_SUPERSEDED]

    def uid(self, kind: str) -> str:
        """UID of something in the results, a pure function of this and ``kind``."""
        return derive_uid(
            f"retraction-{kind}",
            str(self.source.StudyInstanceUID),
            self.content_hash,
            self.model_sha256,
            self.config_digest,
            self.run_at.astimezone(UTC).isoformat(),
            self.code.value,
            *self.predecessor_sr,
        )


def retracting_report(retraction: Retraction) -> Dataset:
    """SR that names the report before it as its predecessor and says why nothing took its place."""
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=retraction.uid("sr-tracking"), identifier="anomaly-study"),
        qualitative_evaluations=[
            QualitativeEvaluation(codes.NORMALITY, codes.NORMALITY_UNDETERMINED),
            QualitativeEvaluation(
                codes.ASSESSMENT, codes.FAILED if retraction.reason is None else codes.NOT_ASSESSABLE
            ),
            QualitativeEvaluation(codes.REASON, retraction.code),
        ],
    )
    add_text(
        group,
        [
            *((codes.STATEMENT, statement) for statement in retraction.words),
            (codes.NOTICE, codes.NO_DIAGNOSIS),
            (codes.NOTICE, codes.DISCLAIMER),
        ],
    )
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=observer_of(retraction.model_sha256, MODEL_NAME)
        ),
        procedure_reported=codes.IMAGING_PROCEDURE,
        imaging_measurements=[group],
        title=codes.REPORT_TITLE,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(codes.ENGLISH),
    )[0]
    result = _shell(retraction, RetractionKind.REPORT, Comprehensive3DSRStorage, "SR")
    complete_report(content, result)
    name_predecessor(result, retraction.predecessor_sr)
    return result


def retracting_picture(retraction: Retraction) -> Dataset:
    """Secondary capture that says the same in its pixels."""
    heading = codes.FAILED_HEADING if retraction.reason is None else codes.NOT_ASSESSABLE_HEADING
    result = _shell(retraction, RetractionKind.PICTURE, tile_class(retraction.shown_as), "OT")
    return complete_tile(result, retraction.source, heading, [*retraction.words, codes.NO_DIAGNOSIS])


def _shell(retraction: Retraction, kind: RetractionKind, sop_class: UID, modality: str) -> Dataset:
    return shell(
        retraction.source,
        kind=kind.like,
        sop_class=sop_class,
        modality=modality,
        sop_instance=retraction.uid(f"{kind.value}-instance"),
        run_at=retraction.run_at,
        model_sha256=retraction.model_sha256,
        software=[retraction.software_version],
    )
