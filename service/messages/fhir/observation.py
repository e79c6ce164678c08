"""Observation: how unusual a study is, preliminary; without a number wherever nothing was judged (I7)."""

from pydicom.sr.coding import Code

from dicom_node.results import codes
from service.access import Identity
from service.messages import concepts
from service.messages.fhir import elements
from service.messages.fhir.elements import Json
from service.store.reports import Report
from service.study import State

ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"
_WHY_ABSENT = {State.NOT_ASSESSABLE: "not-performed", State.FAILED: "error"}


def observation(report: Report, identity: Identity | None, *, holds: bool = True) -> Json:
    """Write what was found.

    Parameters
    ----------
    report : Report
    identity : Identity or None
    holds : bool
        False where more images came since: there is no number until they were judged too.
    """
    resource: Json = {
        "resourceType": "Observation",
        "id": report.study_key,
        "identifier": [elements.key_identifier(report.study_key)],
        "contained": [elements.model(report)],
        "status": "preliminary",
        "category": [{"coding": [{"system": CATEGORIES, "code": "imaging"}]}],
        "code": elements.concept(codes.NORMALITY_PERCENTILE),
        "subject": elements.subject(identity),
        "effectiveDateTime": elements.instant(report.run_at),
        "device": elements.MODEL_REFERENCE,
        "derivedFrom": [elements.study_reference(report.study_key)],
        "note": [{"text": concepts.notice(report, is_judged=holds and report.assessment is not None)}],
    }
    if report.ended_at is not None:
        resource["issued"] = elements.instant(report.ended_at)
    found = report.assessment
    if found is None or not holds:
        return resource | {"dataAbsentReason": _absent(report, holds=holds)}
    return resource | {
        "valueQuantity": elements.quantity(found.percentile, codes.PERCENT),
        "method": {"text": "100 p of the anomaly score among the reference group; low is unusual"},
        "component": [
            _component(codes.P_VALUE, {"valueQuantity": elements.quantity(found.p_value, codes.NO_UNITS)}),
            _component(
                codes.ANOMALY_SCORE, {"valueQuantity": elements.quantity(found.study_score, codes.NO_UNITS)}
            ),
            _component(concepts.GROUP, {"valueString": f"{found.reference_group}, n={found.reference_n}"}),
        ],
    }


def _component(code: Code, value: Json) -> Json:
    return {"code": elements.concept(code)} | value


def _absent(report: Report, *, holds: bool) -> Json:
    """Say why there is no number, in FHIR's code and in ours."""
    why = _WHY_ABSENT.get(report.state, "temp-unknown") if holds else "temp-unknown"
    absent: Json = {"coding": [{"system": ABSENT, "code": why}]}
    reason = concepts.reason_code(report)
    if holds and reason is not None:
        absent["coding"].append(elements.coding(reason))
    if holds and report.reason:
        absent["text"] = report.reason
    return absent
