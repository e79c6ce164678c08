"""CapabilityStatement: what this server answers."""

from datetime import UTC, datetime

from service import __version__
from service.messages.fhir.elements import Json

# Search parameters by resource; every one also takes _id and _count.
SEARCHES = {
    "ImagingStudy": {"identifier": "token"},
    "Observation": {"identifier": "token", "derived-from": "reference"},
    "DiagnosticReport": {"identifier": "token"},
    "Task": {"identifier": "token", "focus": "reference"},
    "Provenance": {"target": "reference"},
    "AuditEvent": {},
}
BUILT = datetime(2026, 1, 1, tzinfo=UTC)  # when this statement was last changed


def capability_statement() -> Json:
    """Write the statement."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": BUILT.isoformat(),
        "kind": "instance",
        "software": {"name": "Vigil", "version": __version__},
        "implementation": {"description": "Anomaly ranking of imaging studies, preliminary, not a diagnosis"},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": {"description": "A session, or a token as Authorization: Bearer."},
                "resource": [
                    {
                        "type": name,
                        "interaction": [{"code": "read"}, {"code": "search-type"}],
                        "searchParam": [
                            {"name": "_id", "type": "token"},
                            *({"name": parameter, "type": kind} for parameter, kind in found.items()),
                        ],
                    }
                    for name, found in SEARCHES.items()
                ],
            }
        ],
    }
