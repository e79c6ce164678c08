"""AuditEvent: one row of the audit trail (PS3.15 A.5 codes, as IHE BALP uses them)."""

from service import atna
from service.messages.fhir import elements
from service.messages.fhir.elements import Json
from service.store.trail import Told


def audit_event(entry: Told) -> Json:
    """Write one row."""
    event = atna.event_of(entry.action)
    resource: Json = {
        "resourceType": "AuditEvent",
        "id": str(entry.number),
        "type": {"system": elements.DCM, "code": event.code.value, "display": event.code.meaning},
        "action": event.does,
        "subtype": [{"system": "urn:vigil:action", "code": entry.action}],
        "recorded": elements.instant(entry.at),
        "outcome": event.outcome,
        "agent": [{"who": {"display": entry.actor}, "requestor": True}],
        "source": {"observer": elements.VIGIL},
    }
    details = [
        {"type": "previous", "valueString": entry.previous},
        {"type": "hash", "valueString": entry.hash},
    ]
    what = {"what": elements.study_reference(entry.study_key)} if entry.study_key else {"name": entry.action}
    resource["entity"] = [what | {"detail": details}]
    return resource
