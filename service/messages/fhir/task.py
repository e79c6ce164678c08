"""Task: one run of one model on one study."""

from service.access import Identity
from service.messages import concepts
from service.messages.fhir import elements
from service.messages.fhir.elements import Json
from service.store.reports import Report
from service.study import Priority, State

_STATUSES = {
    State.QUEUED: "requested",
    State.SCORED: "completed",
    State.NOT_ASSESSABLE: "completed",  # the answer is that no model may judge it
    State.FAILED: "failed",
}


def task(report: Report, identity: Identity | None) -> Json:
    """Write a run."""
    resource: Json = {
        "resourceType": "Task",
        "id": report.study_key,
        "identifier": [elements.key_identifier(report.study_key)],
        "status": _STATUSES.get(report.state, "received"),
        "businessStatus": elements.concept(concepts.state_code(report)),
        "intent": "order",
        "priority": priority(report.priority),
        "code": elements.concept(concepts.TRIAGE),
        "focus": elements.study_reference(report.study_key),
        "for": elements.subject(identity),
        "authoredOn": elements.instant(report.run_at),
        "lastModified": elements.instant(report.ended_at or report.run_at),
        "owner": elements.VIGIL,
        "input": [
            {"type": elements.concept(concepts.MODEL), "valueString": report.model_sha256},
        ],
    }
    if report.reason:
        resource["statusReason"] = {"text": report.reason}
    if report.state in _STATUSES and report.state is not State.QUEUED:
        resource["output"] = [
            {
                "type": elements.concept(concepts.TRIAGE),
                "valueReference": {"reference": f"DiagnosticReport/{report.study_key}"},
            }
        ]
    return resource


def priority(level: int) -> str:
    """Request priority of ours; *stat* only where it was ordered."""
    if level >= Priority.STAT:
        return "stat"
    return "urgent" if level >= Priority.URGENT else "routine"
