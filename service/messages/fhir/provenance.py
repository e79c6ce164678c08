"""Provenance: who made the report, and of what."""

from service.messages.fhir import elements
from service.messages.fhir.elements import Json
from service.store.reports import Report

PARTICIPANTS = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
OPERATIONS = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"


def provenance(report: Report) -> Json:
    """Write where a report comes from."""
    return {
        "resourceType": "Provenance",
        "id": report.study_key,
        "contained": [elements.model(report)],
        "target": [
            {"reference": f"DiagnosticReport/{report.study_key}"},
            {"reference": f"Observation/{report.study_key}"},
        ],
        "occurredDateTime": elements.instant(report.run_at),
        "recorded": elements.instant(report.ended_at or report.run_at),
        "activity": {"coding": [{"system": OPERATIONS, "code": "CREATE"}]},
        "agent": [
            {
                "type": {"coding": [{"system": PARTICIPANTS, "code": "assembler"}]},
                "who": elements.MODEL_REFERENCE,
                "onBehalfOf": elements.VIGIL,
            }
        ],
        "entity": [{"role": "source", "what": elements.study_reference(report.study_key)}],
    }
