"""Rows of the audit trail as DICOM audit messages (PS3.15 A.5.1 to A.5.3).

A message names the study by its pseudonymous key and no patient (I9): the patient object that some events
ask for is left out. Our own action stands beside the standard's event, and the row's number and hash in an
object of their own: the repository holds what proves that a trail was cut or computed anew.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from service.store.trail import Told

OURS = "99VIGIL"
APPLICATION_SERVER = "4"  # audit source type (PS3.15 A.5.1.2.1)
SYSTEM, REPORT, RESOURCE, QUERY = "2", "3", "13", "24"  # participant object type and roles (A.5.1.2.2)
IP_ADDRESS, MACHINE_NAME = "2", "1"
LONGEST_DETAIL = 3000  # bytes; receivers need not take messages above 8192 (RFC 5425 4.3.1)
SUCCESS, MINOR, SERIOUS = "0", "4", "8"

# What XML 1.0 cannot hold; peers may put anything into an application entity's title.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Code:
    """A code of the DICOM controlled terminology."""

    value: str
    meaning: str


ACTIVITY = Code("110100", "Application Activity")
ACCESSED = Code("110103", "DICOM Instances Accessed")
TRANSFERRED = Code("110104", "DICOM Instances Transferred")
DELETED = Code("110105", "DICOM Study Deleted")
ORDER = Code("110109", "Order Record")
PROCEDURE = Code("110111", "Procedure Record")
QUERIED = Code("110112", "Query")
ALERT = Code("110113", "Security Alert")
AUTHENTICATION = Code("110114", "User Authentication")

START, STOP = Code("110120", "Application Start"), Code("110121", "Application Stop")
LOGIN, LOGOUT = Code("110122", "Login"), Code("110123", "Logout")
SECURITY_CONFIGURATION = Code("110129", "Security Configuration")
SOFTWARE_CONFIGURATION = Code("110131", "Software Configuration")
ROLES_CHANGED = Code("110136", "Security Roles Changed")
USERS_CHANGED = Code("110137", "User Security Attributes Changed")

APPLICATION = Code("110150", "Application")
DESTINATION, SOURCE = Code("110152", "Destination Role ID"), Code("110153", "Source Role ID")


@dataclass(frozen=True, slots=True)
class Event:
    """What an action of ours is to the standard.

    Attributes
    ----------
    code : Code
    does : str
        C, R, U, D or E: create, read, update, delete, execute.
    kind : Code or None
    outcome : str
    """

    code: Code
    does: str
    kind: Code | None = None
    outcome: str = SUCCESS


EVENTS: Mapping[str, Event] = {
    "service.started": Event(ACTIVITY, "E", START),
    "service.stopped": Event(ACTIVITY, "E", STOP),
    "person.signed_in": Event(AUTHENTICATION, "E", LOGIN),
    "person.sign_in_failed": Event(AUTHENTICATION, "E", LOGIN, MINOR),
    "person.signed_out": Event(AUTHENTICATION, "E", LOGOUT),
    "person.role_changed": Event(ALERT, "E", ROLES_CHANGED),
    "configuration.changed": Event(ALERT, "E", SECURITY_CONFIGURATION),
    "backup.made": Event(ALERT, "R", SOFTWARE_CONFIGURATION),
    "backup.restored": Event(ALERT, "E", SOFTWARE_CONFIGURATION),
    "model.activated": Event(ALERT, "E", SOFTWARE_CONFIGURATION),
    "model.promoted": Event(ALERT, "E", SOFTWARE_CONFIGURATION),
    "model.rolled_back": Event(ALERT, "E", SOFTWARE_CONFIGURATION),
    "list.queried": Event(QUERIED, "E"),
    "dicomweb.searched": Event(QUERIED, "E"),
    "dicomweb.retrieved": Event(ACCESSED, "R"),
    "study.viewed": Event(ACCESSED, "R"),
    "identity.revealed": Event(ACCESSED, "R"),
    "workitem.searched": Event(QUERIED, "E"),
    "workitem.retrieved": Event(ACCESSED, "R"),
    "message.dead": Event(ACTIVITY, "E", None, SERIOUS),
    "pack.refused": Event(ACCESSED, "U", None, MINOR),
    "study.received": Event(TRANSFERRED, "C"),
    "study.scored": Event(ACCESSED, "R"),
    "study.not_assessable": Event(ACCESSED, "R"),
    "study.failed": Event(ACCESSED, "R", None, SERIOUS),
    "study.deleting": Event(DELETED, "D"),
    "study.deleted": Event(DELETED, "D"),
    "quarantine.deleted": Event(DELETED, "D"),
    "result.delivered": Event(TRANSFERRED, "R"),
    "result.stored": Event(TRANSFERRED, "R"),
    "result.undelivered": Event(TRANSFERRED, "R", None, SERIOUS),
    "result.unconfirmed": Event(TRANSFERRED, "R", None, MINOR),
    "result.missing": Event(TRANSFERRED, "R", None, MINOR),
    # Of these nothing went anywhere.
    "result.withdrawn": Event(ACCESSED, "U"),
    "result.taken_up": Event(ACCESSED, "U"),
    "result.retracted": Event(ACCESSED, "C"),
    "result.retraction_failed": Event(ACCESSED, "U", None, SERIOUS),
}
# Actions that the table above does not name, by their noun.
NOUNS: Mapping[str, Event] = {
    "person": Event(ALERT, "E", USERS_CHANGED),
    "token": Event(ALERT, "E", USERS_CHANGED),
    "order": Event(ORDER, "U"),
    "study": Event(PROCEDURE, "U"),
    "workitem": Event(PROCEDURE, "U"),
    "pack": Event(ACCESSED, "U"),
    "result": Event(TRANSFERRED, "R"),
}
OTHER = Event(ACTIVITY, "E")


def event_of(action: str) -> Event:
    """Standard's event of an action of ours."""
    return EVENTS.get(action) or NOUNS.get(action.partition(".")[0], OTHER)


def message(told: Told, *, host: str) -> bytes:
    """Return a row as an audit message.

    Parameters
    ----------
    told : Told
    host : str
        Name of this machine.

    Returns
    -------
    bytes
        XML in UTF-8, without a declaration.
    """
    event = event_of(told.action)
    root = Element("AuditMessage")
    identified = SubElement(
        root,
        "EventIdentification",
        EventActionCode=event.does,
        EventDateTime=told.at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=event.outcome,
    )
    _code(identified, "EventID", event.code)
    if event.kind is not None:
        _code(identified, "EventTypeCode", event.kind)
    _own_code(identified, "EventTypeCode", told.action, told.action)
    if event.outcome != SUCCESS:
        reason = SubElement(identified, "EventOutcomeDescription")
        reason.text = _clean(str(told.detail.get("reason") or told.action))
    _participants(root, told, event, host)
    source = SubElement(root, "AuditSourceIdentification", AuditSourceID=f"vigil@{host}")
    SubElement(source, "AuditSourceTypeCode", {"csd-code": APPLICATION_SERVER})
    _objects(root, told)
    return bytes(tostring(root, encoding="utf-8", xml_declaration=False))


def _participants(root: Element, told: Told, event: Event, host: str) -> None:
    """Who did it; of a transfer also where from and where to (A.5.3.7)."""
    actor = SubElement(root, "ActiveParticipant", UserID=_clean(told.actor), UserIsRequestor="true")
    address = told.detail.get("address")
    if isinstance(address, str) and address:
        actor.set("NetworkAccessPointID", _clean(address))
        actor.set("NetworkAccessPointTypeCode", IP_ADDRESS)
    is_incoming = told.action == "study.received"
    ours, theirs = (APPLICATION, None)
    if event.code is TRANSFERRED:
        ours, theirs = (DESTINATION, SOURCE) if is_incoming else (SOURCE, DESTINATION)
    application = SubElement(
        root,
        "ActiveParticipant",
        UserID="vigil",
        UserIsRequestor="false",
        NetworkAccessPointID=host,
        NetworkAccessPointTypeCode=MACHINE_NAME,
    )
    _code(application, "RoleIDCode", ours)
    if theirs is not None:
        peer = str(told.detail.get("sender" if is_incoming else "destination") or "unknown")
        other = SubElement(root, "ActiveParticipant", UserID=_clean(peer), UserIsRequestor="false")
        _code(other, "RoleIDCode", theirs)


def _objects(root: Element, told: Told) -> None:
    """The study, the query, and the row itself with what it says besides."""
    if told.study_key is not None:
        study = _object(root, told.study_key, REPORT, "study-key", "Pseudonymous study key")
        SubElement(study, "ParticipantObjectName").text = told.study_key
    if event_of(told.action).code is QUERIED:
        what = str(told.detail.get("what") or told.detail.get("level") or told.action.partition(".")[0])
        asked = _object(root, what, QUERY, "list", "List that was queried")
        query = told.detail.get("filters", told.detail.get("by", {}))
        SubElement(asked, "ParticipantObjectQuery").text = _base64(query)
    row = _object(root, str(told.number), RESOURCE, "audit-row", "Row of the hash-chained audit trail")
    SubElement(row, "ParticipantObjectName").text = f"{told.number}:{told.hash}"
    detail = _base64(told.detail)
    if told.detail and len(detail) <= LONGEST_DETAIL:
        SubElement(row, "ParticipantObjectDetail", type="detail", value=detail)


def _object(root: Element, name: str, role: str, code: str, meaning: str) -> Element:
    made = SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(name),
        ParticipantObjectTypeCode=SYSTEM,
        ParticipantObjectTypeCodeRole=role,
    )
    _own_code(made, "ParticipantObjectIDTypeCode", code, meaning)
    return made


def _code(parent: Element, name: str, code: Code) -> None:
    SubElement(parent, name, {"csd-code": code.value, "codeSystemName": "DCM", "originalText": code.meaning})


def _own_code(parent: Element, name: str, code: str, meaning: str) -> None:
    SubElement(parent, name, {"csd-code": code, "codeSystemName": OURS, "originalText": meaning})


def _base64(value: object) -> str:
    return b64encode(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).decode()


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
