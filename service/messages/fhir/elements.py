"""What the resources share: systems, codes, references, and who the patient is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydicom.sr.coding import Code

from dicom_node.identity import CODING_SCHEME
from dicom_node.results import codes
from service import __version__
from service.access import Identity, readable
from service.store.reports import Report

Json = dict[str, Any]

CONTENT_TYPE: Final = "application/fhir+json"
KEYS: Final = "urn:vigil:study"  # system of study keys, which are pseudonyms
MESSAGES: Final = "urn:vigil:message"
UIDS: Final = "urn:dicom:uid"
UCUM: Final = "http://unitsofmeasure.org"
DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
IDENTIFIER_TYPES: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
SYSTEMS: Final[Mapping[str, str]] = {
    "DCM": DCM,
    "SCT": "http://snomed.info/sct",
    "UCUM": UCUM,
    CODING_SCHEME: "urn:vigil:codes",
}
MODEL_REFERENCE: Final = {"reference": "#model"}
VIGIL: Final = {"display": f"Vigil {__version__}"}


def instant(at: datetime) -> str:
    """Time with its zone."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def coding(code: Code) -> Json:
    """Coding of a concept."""
    return {"system": SYSTEMS[code.scheme_designator], "code": code.value, "display": code.meaning}


def concept(code: Code) -> Json:
    """CodeableConcept of one."""
    return {"coding": [coding(code)]}


def quantity(value: float, unit: Code) -> Json:
    """Quantity in a unit of UCUM."""
    return {"value": value, "unit": unit.meaning, "system": UCUM, "code": unit.value}


def key_identifier(report_key: str, *, system: str = KEYS) -> Json:
    """Identifier of what belongs to a study."""
    return {"system": system, "value": report_key}


def study_reference(key: str) -> Json:
    """Reference to a study."""
    return {"reference": f"ImagingStudy/{key}"}


def subject(identity: Identity | None) -> Json:
    """Who the patient is; of a caller who may not know it, that there is one."""
    if identity is None or not identity.patient_id:
        return {"display": "Patient, masked" if identity is None else "Patient without an id"}
    identifier: Json = {"type": _identifier_type("MR"), "value": identity.patient_id}
    if identity.issuer:
        identifier["assigner"] = {"display": identity.issuer}
    named = readable(identity.name)
    return {"identifier": identifier} | ({"display": named} if named else {})


def study_uid(identity: Identity | None) -> list[Json]:
    """Identifier of the study in DICOM; none where it is masked."""
    if identity is None or not identity.study_uid:
        return []
    return [{"system": UIDS, "value": f"urn:oid:{identity.study_uid}"}]


def accession(identity: Identity | None) -> list[Json]:
    """Identifier of the order; none where it is masked."""
    if identity is None or not identity.accession_number:
        return []
    return [{"type": _identifier_type("ACSN"), "value": identity.accession_number}]


def model(report: Report) -> Json:
    """Device that judged, as a contained resource."""
    versions = [{"value": report.model_version}] if report.model_version else []
    device = {
        "resourceType": "Device",
        "id": "model",
        "identifier": [{"system": "urn:vigil:model", "value": report.model_sha256}],
        "manufacturer": "Vigil",
        "deviceName": [{"name": report.model_name or "Vigil", "type": "model-name"}],
        "type": concept(codes.ARTIFICIAL_INTELLIGENCE),
    }
    return device | ({"version": versions} if versions else {})


def _identifier_type(code: str) -> Json:
    return {"coding": [{"system": IDENTIFIER_TYPES, "code": code}]}
