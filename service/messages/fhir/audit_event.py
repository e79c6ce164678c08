"""AuditEvent: one row of the audit trail (PS3.15 A.5 codes, as IHE BALP uses them)."""

from service.messages.fhir import elements
from service.messages.fhir.elements import Json
from service.store.trail import Told

# What kind of event an action is: the first word of our actions to the event ids of DICOM.
_TYPES = {
    "study": ("110100", "Application Activity"),
    "result": ("110104", "DICOM Instances Transferred"),
    "message": ("110106", "Export"),
    "identity": ("110110", "Patient Record"),
    "person": ("110114", "User Authentication"),
    "session": ("110114", "User Authentication"),
    "token": ("110114", "User Authentication"),
}
_OTHER = ("110113", "Security Alert")
_TROUBLE = ("failed", "undelivered", "dead", "refused")


def audit_event(entry: Told) -> Json:
    """Write one row."""
    noun, _, verb = entry.action.partition(".")
    code, display = _TYPES.get(noun, _OTHER)
    resource: Json = {
        "resourceType": "AuditEvent",
        "id": str(entry.number),
        "type": {"system": elements.DCM, "code": code, "display": display},
        "subtype": [{"system": "urn:vigil:action", "code": entry.action}],
        "recorded": elements.instant(entry.at),
        "outcome": "4" if verb in _TROUBLE else "0",
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
