"""ImagingStudy: which study it is. The archive owns it; Vigil names it."""

from service.access import Identity
from service.messages.fhir import elements
from service.messages.fhir.elements import Json
from service.store.reports import KnownStudy


def imaging_study(study: KnownStudy, identity: Identity | None) -> Json:
    """Write a study.

    Parameters
    ----------
    study : KnownStudy
    identity : Identity or None
        None where the reader may not know it.
    """
    resource: Json = {
        "resourceType": "ImagingStudy",
        "id": study.key,
        "identifier": [
            elements.key_identifier(study.key),
            *elements.study_uid(identity),
            *elements.accession(identity),
        ],
        "status": "available",
        "subject": elements.subject(identity),
    }
    if study.modality:
        resource["modality"] = [{"system": elements.DCM, "code": study.modality}]
    if study.instances is not None:
        resource["numberOfInstances"] = study.instances
    return resource
