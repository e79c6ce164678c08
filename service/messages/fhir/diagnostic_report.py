"""DiagnosticReport: the document about a study, which is never anything but preliminary."""

from service.access import Identity
from service.messages import concepts
from service.messages.fhir import elements
from service.messages.fhir.elements import Json
from service.store.reports import Report

SECTIONS = "http://terminology.hl7.org/CodeSystem/v2-0074"


def diagnostic_report(report: Report, identity: Identity | None, *, holds: bool = True) -> Json:
    """Write the document.

    Parameters
    ----------
    report : Report
    identity : Identity or None
    holds : bool
        False where more images came since.
    """
    resource: Json = {
        "resourceType": "DiagnosticReport",
        "id": report.study_key,
        "identifier": [elements.key_identifier(report.study_key), *elements.accession(identity)],
        "status": "preliminary",
        "category": [{"coding": [{"system": SECTIONS, "code": "RAD"}]}],
        "code": elements.concept(concepts.TRIAGE),
        "subject": elements.subject(identity),
        "effectiveDateTime": elements.instant(report.run_at),
        "performer": [elements.VIGIL],
        "imagingStudy": [elements.study_reference(report.study_key)],
        "result": [{"reference": f"Observation/{report.study_key}"}],
        "conclusion": conclusion(report, holds=holds),
    }
    if report.ended_at is not None:
        resource["issued"] = elements.instant(report.ended_at)
    return resource


def conclusion(report: Report, *, holds: bool) -> str:
    """What can be said in words, with what it does not mean."""
    found = report.assessment
    notice = concepts.notice(report, is_judged=holds and found is not None)
    if not holds:
        return f"{concepts.SUPERSEDED.meaning}. {notice}"
    if found is None:
        reason = f" ({report.reason})" if report.reason else ""
        return f"{concepts.state_code(report).meaning}{reason}. {notice}"
    return (
        f"Normality percentile {found.percentile:.1f} among {found.reference_n} studies of "
        f"{found.reference_group}; low is unusual. {notice}"
    )
