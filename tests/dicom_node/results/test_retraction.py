import io
import shutil
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage, SecondaryCaptureImageStorage

from dicom_node.identity import is_own
from dicom_node.results import Retraction, build_retraction, codes, encode
from models.errors import Reason
from tests.dicom_node.results.scenes import PHANTOM, by_kind, hashes, refused
from tests.dicom_node.results.test_report import coded_values, items, texts
from tests.end_to_end.peers import dciodvfy_errors

KINDS = {"sc_retraction", "sr_retraction"}


def retraction(
    reason: Reason | None = None, *, shown_as: str | None = SecondaryCaptureImageStorage
) -> Retraction:
    """Of a study whose report came back from an archive, as it is kept here."""
    report = by_kind(refused(PHANTOM.datasets()))["sr"]
    return Retraction(
        source=report,
        predecessor_sr=(report.SOPClassUID, report.SOPInstanceUID),
        shown_as=shown_as,
        reason=reason,
        detail="Every attempt to score it failed.",
        model_sha256="ab12" * 16,
        config_digest="c0" * 32,
        content_hash="f2" * 32,
        run_at=datetime(2026, 3, 5, 5, 6, 7, tzinfo=UTC),
        software_version="0.1.0",
    )


def read(made: Retraction) -> dict[str, Dataset]:
    return {one.kind: dcmread(io.BytesIO(encode(one.dataset))) for one in build_retraction(made)}


def test_what_failed_takes_back_the_report_before_it() -> None:
    made = retraction()
    results = read(made)
    report = results["sr_retraction"]

    assert set(results) == KINDS
    (study,) = report.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == made.source.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == made.source.SOPInstanceUID
    assert coded_values(report, "ASSESSMENT") == {"FAILED"}
    assert coded_values(report, "NA-REASON") == {"FAILED-SUPERSEDE"}
    assert coded_values(report, "121402") == {"371934000"}
    assert not [item for item in items(report) if item.ValueType == "NUM"]
    for said in (codes.NOT_SCORED, codes.ALL_SUPERSEDED, codes.NO_DIAGNOSIS, codes.DISCLAIMER, made.detail):
        assert said in texts(report)
    picture = results["sc_retraction"].DerivationDescription
    for said in ("SCORING FAILED", made.detail, codes.ALL_SUPERSEDED, codes.NO_DIAGNOSIS):
        assert said in picture


def test_what_is_not_assessable_keeps_its_own_code() -> None:
    report = read(retraction(Reason.NO_IMAGES))["sr_retraction"]
    assert coded_values(report, "ASSESSMENT") == {"NOT-ASSESSABLE"}
    assert coded_values(report, "NA-REASON") == {codes.REASONS[Reason.NO_IMAGES].value}


def test_patient_and_study_are_those_of_the_images() -> None:
    (image, *_) = PHANTOM.datasets()
    for result in read(retraction()).values():
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate"):
            assert result[keyword].value == image[keyword].value
        assert is_own(result)


def test_without_pictures_before_there_is_the_report_alone() -> None:
    assert set(read(retraction(shown_as=None))) == {"sr_retraction"}


def test_the_same_retraction_gives_the_same_bytes_and_a_report_that_others_read() -> None:
    assert hashes(build_retraction(retraction())) == hashes(build_retraction(retraction()))
    report = next(one.dataset for one in build_retraction(retraction()) if one.kind == "sr_retraction")
    assert hd.sr.srread(io.BytesIO(encode(report))).content.get_image_measurement_groups() is not None


@pytest.mark.peers
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy")
@pytest.mark.parametrize(
    ("reason", "shown_as"),
    [
        (None, SecondaryCaptureImageStorage),
        (Reason.NO_IMAGES, MultiFrameTrueColorSecondaryCaptureImageStorage),
    ],
)
def test_a_validator_accepts_both(tmp_path: Path, reason: Reason | None, shown_as: str) -> None:
    for one in build_retraction(retraction(reason, shown_as=shown_as)):
        path = tmp_path / f"{one.kind}.dcm"
        path.write_bytes(encode(one.dataset))
        assert dciodvfy_errors(path) == [], one.kind
