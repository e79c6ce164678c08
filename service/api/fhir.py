"""``/fhir``: studies, what was found of them, and the audit trail, as HL7 FHIR R4. Read only.

Ids are study keys, which are pseudonyms. Who the patient is stands in a resource where the caller may fetch
the images, which say it too. Reads and searches are in the audit trail.
"""

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from service.access import Caller, Identity, Permission
from service.api.callers import require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.problems import ProblemError
from service.messages.fhir import elements
from service.messages.fhir.audit_event import audit_event
from service.messages.fhir.bundle import searchset
from service.messages.fhir.capability import SEARCHES, capability_statement
from service.messages.fhir.diagnostic_report import diagnostic_report
from service.messages.fhir.elements import Json
from service.messages.fhir.imaging_study import imaging_study
from service.messages.fhir.observation import observation
from service.messages.fhir.provenance import provenance
from service.messages.fhir.task import task
from service.store import identities, known, looks, trail
from service.store.reports import KnownStudy
from service.store.worklist import KEY_PATTERN

MOST = 100  # resources on a page

router = APIRouter(prefix="/fhir", tags=["fhir"], dependencies=[Depends(refuse_unknown_parameters)])


class Kind(StrEnum):
    """Resources about a study."""

    IMAGING_STUDY = "ImagingStudy"
    OBSERVATION = "Observation"
    DIAGNOSTIC_REPORT = "DiagnosticReport"
    TASK = "Task"
    PROVENANCE = "Provenance"


Administrator = Annotated[Caller, Depends(require(Permission.ADMINISTER))]
Viewer = Annotated[Caller, Depends(require(Permission.VIEW))]
Key = Annotated[str, Path(pattern=KEY_PATTERN, description="The study's pseudonymous key.")]
Count = Annotated[int, Query(alias="_count", ge=1, le=MOST, description="Most resources on a page.")]
# A place beyond what the database counts to: every row is before it.
Before = Annotated[
    int | None,
    Query(alias="_before", ge=1, description="Of a next link; opaque."),
    AfterValidator(lambda given: given if given is None else min(given, 2**63 - 1)),
]
REFERENCE = "^(ImagingStudy|DiagnosticReport|Observation)/[a-z2-7]{20}$"
Reference = Annotated[str | None, Query(pattern=REFERENCE)]


class FhirResponse(JSONResponse):
    """JSON with FHIR's media type."""

    media_type = elements.CONTENT_TYPE


@router.get("/metadata", response_class=FhirResponse, dependencies=[Depends(require(Permission.VIEW))])
def read_capabilities() -> FhirResponse:
    """What this server answers: CapabilityStatement."""
    return FhirResponse(capability_statement())


@router.get("/AuditEvent", response_class=FhirResponse)
def search_audit_events(
    parts: PartsOf, request: Request, caller: Administrator, count: Count = 50, before: Before = None
) -> FhirResponse:
    """Rows of the audit trail, newest first."""
    with parts.store.transaction() as session:
        found = trail.read(session, trail.TrailQuery(before=before), limit=count + 1)
        looks.queried(session, "fhir AuditEvent", {}, found=min(len(found), count), actor=caller.name)
    last = found[count - 1].number if len(found) > count else None
    return _page(request, [audit_event(entry) for entry in found[:count]], last)


@router.get("/AuditEvent/{number}", response_class=FhirResponse)
def read_audit_event(
    parts: PartsOf, caller: Administrator, number: Annotated[int, Path(ge=1, le=2**62)]
) -> FhirResponse:
    """One row of the audit trail."""
    with parts.store.transaction() as session:
        found = trail.one(session, number)
        told = {"number": number}
        looks.queried(session, "fhir AuditEvent", told, found=int(found is not None), actor=caller.name)
    if found is None:
        raise _missing()
    return FhirResponse(audit_event(found))


@router.get("/{kind}/{key}", response_class=FhirResponse)
def read_resource(parts: PartsOf, caller: Viewer, kind: Kind, key: Key) -> FhirResponse:
    """One resource of a study."""
    with parts.store.transaction() as session:
        found = known.known_studies(
            session, conditions=[known.with_key(key)], limit=1, judged=kind is not Kind.IMAGING_STUDY
        )
        if not found:
            raise _missing()
        looks.viewed(session, key, actor=caller.name)
        (resource,) = _resources(session, kind, found, caller)
    return FhirResponse(resource)


@router.get("/{kind}", response_class=FhirResponse)
def search_resources(
    parts: PartsOf,
    request: Request,
    caller: Viewer,
    kind: Kind,
    key: Annotated[str | None, Query(alias="_id", pattern=KEY_PATTERN)] = None,
    identifier: Annotated[str | None, Query(max_length=200, description="system|value or value.")] = None,
    derived_from: Annotated[str | None, Query(alias="derived-from", pattern=REFERENCE)] = None,
    focus: Reference = None,
    target: Reference = None,
    count: Count = 50,
    before: Before = None,
) -> FhirResponse:
    """Resources of one type, those of the newest study first."""
    references = {"derived-from": derived_from, "focus": focus, "target": target}
    given = {name: value for name, value in references.items() if value is not None}
    asked = set(given) | ({"identifier"} if identifier is not None else set())
    if not asked <= set(SEARCHES[kind]):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "no-such-search",
            "This resource is not searched like that.",
            "See /fhir/metadata for the parameters of each resource.",
        )
    conditions = [known.with_key(value.rpartition("/")[2]) for value in given.values()]
    if key is not None:
        conditions.append(known.with_key(key))
    if identifier is not None:
        conditions.append(_identified(identifier, caller))
    with parts.store.transaction() as session:
        found = known.known_studies(
            session,
            conditions=conditions,
            before=before,
            limit=count + 1,
            judged=kind is not Kind.IMAGING_STUDY,
        )
        resources = _resources(session, kind, found[:count], caller)
        filters = {"_id": key, **given} | ({"identifier": "withheld"} if identifier is not None else {})
        looks.queried(session, f"fhir {kind.value}", filters, found=len(resources), actor=caller.name)
    last = found[count - 1].number if len(found) > count else None
    return _page(request, resources, last)


def _identified(identifier: str, caller: Caller) -> ColumnElement[bool]:
    """Condition of an identifier. Only who may know identities may ask whether one is here."""
    if "\0" in identifier:  # no database takes it
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "no-text", "The identifier is no text.", "Leave the NUL out of it."
        )
    system, _, value = identifier.rpartition("|")
    if system == elements.KEYS:
        return known.with_key(value)
    if not caller.may(Permission.IMAGES):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "not-allowed",
            f"The role {caller.role.value} may not search by identity.",
            "Search by _id, or ask an administrator for a role that may.",
        )
    uid = value.removeprefix("urn:oid:")
    return known.with_identifier(
        study_uid=uid if system in {elements.UIDS, ""} else None,
        accession_number=value if system != elements.UIDS else None,
    )


def _resources(session: Session, kind: Kind, studies: tuple[KnownStudy, ...], caller: Caller) -> list[Json]:
    """Write a resource of each study; who may know the patients is told them, and that is noted."""
    named: dict[str, Identity] = {}
    if caller.may(Permission.IMAGES) and kind is not Kind.PROVENANCE:
        named = identities.of_studies(session, [study.key for study in studies])
    for key in sorted(named):
        looks.viewed(session, key, actor=caller.name)
    return [_resource(kind, study, named.get(study.key)) for study in studies]


def _resource(kind: Kind, study: KnownStudy, identity: Identity | None) -> Json:
    report = study.report
    if kind is Kind.IMAGING_STUDY or report is None:
        return imaging_study(study, identity)
    if kind is Kind.OBSERVATION:
        return observation(report, identity, holds=study.holds)
    if kind is Kind.DIAGNOSTIC_REPORT:
        return diagnostic_report(report, identity, holds=study.holds)
    return task(report, identity) if kind is Kind.TASK else provenance(report)


def _page(request: Request, resources: list[Json], last: int | None) -> FhirResponse:
    here = str(request.url)
    onward = str(request.url.include_query_params(_before=last)) if last is not None else None
    base = f"{str(request.base_url).rstrip('/')}{router.prefix}"
    return FhirResponse(searchset(resources, base=base, here=here, onward=onward))


def _missing() -> ProblemError:
    return ProblemError(
        HTTPStatus.NOT_FOUND,
        "no-resource",
        "There is no such resource.",
        "Search for it: a study that has not been queued yet has an ImagingStudy alone.",
    )
