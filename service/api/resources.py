"""What there is, in pages: scores, jobs, dead letters, deliveries, destinations, models, feedback, audit."""

from datetime import date, datetime
from http import HTTPStatus
from typing import Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from pydantic import Field
from sqlalchemy.orm import Session

from service.access import Caller, Permission
from service.api import schemas
from service.api.callers import require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.problems import ProblemError
from service.api.reading import Feedback, shown_to
from service.api.schemas import Body
from service.filters import NO_NUL, Time
from service.store import dead_letters, destinations, feedback, known_models, listings, looks, paging, trail
from service.store.trail import TrailQuery
from service.store.worklist import KEY_PATTERN
from service.study import DeliveryStatus, Pool, State, Verdict

router = APIRouter(
    prefix="/api/v1",
    tags=["resources"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)

MOST_ITEMS = 1000
LONGEST_CURSOR = 1000  # characters
LONGEST = 200  # of a filter

T = TypeVar("T")

Viewer = Annotated[Caller, Depends(require(Permission.VIEW))]
Words = Annotated[str | None, Query(min_length=1, max_length=LONGEST, pattern=NO_NUL)]
Study = Annotated[str | None, Query(pattern=KEY_PATTERN, description="Key of a study.")]
Sha256 = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="Hash of a model.")]


class Page(Body, Generic[T]):
    """A page of a listing, newest first."""

    disclaimer: str
    items: list[T]
    next: str | None = Field(description="Cursor of the page after this one.")
    previous: str | None = Field(description="Cursor of the page before this one.")


class ListedScore(Body):
    """One model on one revision of one study; regions, series and results stand with the study."""

    id: int
    key: str = Field(description="Of the study.")
    revision: int
    is_current: bool = Field(description="The score that counts: the newest of the newest revision.")
    state: State
    reason: str | None
    detail: str
    attempts: int
    run_at: datetime
    ended_at: datetime | None
    model: schemas.Model
    assessment: schemas.Assessment | None = Field(description="Null unless scored.")


class Job(Body):
    """One piece of work that waits or runs."""

    id: int
    pool: Pool
    is_running: bool
    priority: int = Field(description="Higher runs first; age raises it.")
    due_at: datetime | None = Field(description="It waits until then; null: it is due.")
    key: str = Field(description="Of the study.")
    attempts: int = Field(description="Those that were begun.")
    kind: str | None = Field(description="Of a result that is delivered.")
    destination: str | None


class DeadLetter(Body):
    """One thing that was given up and waits for a person."""

    key: str = Field(description="Of the study.")
    what: str = Field(description="study, or kind and destination of a result.")
    reason: str
    attempts: int
    ended_at: datetime


class ListedDelivery(schemas.Delivery):
    """One result of a study on its way to one destination."""

    id: int
    key: str = Field(description="Of the study.")
    kind: str


class Destination(Body):
    """One peer that is, or was, sent results."""

    name: str
    is_configured: bool = Field(description="It stands in the peers file.")
    parked_at: datetime | None = Field(description="Since when a person lets its deliveries wait.")
    deliveries: dict[DeliveryStatus, int]


class KnownModel(Body):
    """One model that serves, or was given studies."""

    sha256: str
    name: str = Field(description="Empty until a worker has said so.")
    version: str
    is_in_service: bool
    scores: dict[State, int]
    first_at: datetime | None = Field(description="When it was first given a study.")
    last_at: datetime | None
    reference_group: str | None = Field(description="Of the model in service.")
    reference_n: int | None
    calibrated_on: date | None
    calibration_sha256: str | None


class ModelWithCard(Body):
    """One model, and what its makers say of it."""

    disclaimer: str
    model: KnownModel
    card: str | None = Field(description="Markdown; null where this machine has not that model.")


class AuditEvent(Body):
    """One row of the audit trail."""

    number: int
    at: datetime
    actor: str
    action: str
    study_key: str | None
    detail: dict[str, Any]
    hash: str = Field(description="Over this row and the hash of the one before.")


def _place(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 100,
    cursor: Annotated[
        str | None, Query(min_length=1, max_length=LONGEST_CURSOR, description="From a page before.")
    ] = None,
) -> paging.Place:
    filters = sorted(
        (name, value) for name, value in request.query_params.multi_items() if name not in {"limit", "cursor"}
    )
    return paging.Place(of=f"{request.url.path}?{urlencode(filters)}", limit=limit, cursor=cursor)


PlaceOf = Annotated[paging.Place, Depends(_place)]


@router.get("/scores")
def list_scores(
    parts: PartsOf,
    caller: Viewer,
    place: PlaceOf,
    study: Study = None,
    state: State | None = None,
    model: Sha256 = None,
) -> Page[ListedScore]:
    """Scores, newest first."""
    with parts.store.transaction() as session:
        found = listings.scores(session, place, study=study, state=state, model=model)
        _on_record(session, caller, place, found)
    return _page(Page[ListedScore], parts.disclaimer, found)


@router.get("/jobs")
def list_jobs(
    parts: PartsOf,
    caller: Viewer,
    place: PlaceOf,
    pool: Pool | None = None,
    status: Literal["waiting", "running"] | None = None,
) -> Page[Job]:
    """Work that waits or runs, newest first. What was given up stands under dead-letters."""
    is_running = None if status is None else status == "running"
    with parts.store.transaction() as session:
        found = listings.jobs(session, place, pool=pool, is_running=is_running)
        _on_record(session, caller, place, found)
    return _page(Page[Job], parts.disclaimer, found)


@router.get("/dead-letters")
def list_dead_letters(parts: PartsOf, caller: Viewer, place: PlaceOf) -> Page[DeadLetter]:
    """What was given up, with its reason, newest first. Rescore or resend takes it up again."""
    with parts.store.transaction() as session:
        found = dead_letters.dead_letters(session, place)
        _on_record(session, caller, place, found)
    return _page(Page[DeadLetter], parts.disclaimer, found)


@router.get("/deliveries")
def list_deliveries(
    parts: PartsOf,
    caller: Viewer,
    place: PlaceOf,
    study: Study = None,
    destination: Words = None,
    status: DeliveryStatus | None = None,
) -> Page[ListedDelivery]:
    """Deliveries, newest first."""
    with parts.store.transaction() as session:
        found = listings.deliveries(session, place, study=study, destination=destination, status=status)
        _on_record(session, caller, place, found)
    return _page(Page[ListedDelivery], parts.disclaimer, found)


@router.get("/destinations")
def list_destinations(parts: PartsOf) -> list[Destination]:
    """Where results go: parked or not, and how much waits or was given up."""
    with parts.store.transaction() as session:
        found = destinations.destinations(session, parts.destinations())
    return [Destination.model_validate(one) for one in found]


@router.get("/models")
def list_models(parts: PartsOf) -> list[KnownModel]:
    """Return the model in service, and all that were given studies here."""
    return _models(parts)


@router.get("/models/{sha256}")
def read_model(
    parts: PartsOf, sha256: Annotated[str, InPath(pattern="^[0-9a-f]{64}$", description="Of the model.")]
) -> ModelWithCard:
    """One model, with its card where this machine has it."""
    for model in _models(parts):
        if model.sha256 == sha256:
            return ModelWithCard(disclaimer=parts.disclaimer, model=model, card=parts.card_of(sha256))
    raise ProblemError(
        HTTPStatus.NOT_FOUND,
        "unknown-model",
        "No model of this hash is or was in service here.",
        "List them at /api/v1/models.",
    )


@router.get("/feedback")
def list_feedback(
    parts: PartsOf,
    caller: Viewer,
    place: PlaceOf,
    study: Study = None,
    verdict: Verdict | None = None,
    by: Words = None,
    model: Sha256 = None,
) -> Page[Feedback]:
    """What readers said of studies, each in its newest version, newest first."""
    with parts.store.transaction() as session:
        found = feedback.listed(session, place, study=study, verdict=verdict, by=by, model=model)
        _on_record(session, caller, place, found)
    return Page[Feedback](
        disclaimer=parts.disclaimer,
        items=[shown_to(caller, one) for one in found.items],
        next=found.next,
        previous=found.previous,
    )


@router.get("/audit", dependencies=[Depends(require(Permission.ADMINISTER))])
def list_audit(
    parts: PartsOf,
    caller: Viewer,
    place: PlaceOf,
    study: Study = None,
    action: Annotated[
        str | None,
        Query(pattern="^[a-z_]{1,40}([.][a-z_]{1,40})?$", description="As study.queued, or all of study."),
    ] = None,
    actor: Words = None,
    since: Annotated[Time | None, Query(description="That time counts.")] = None,
    until: Annotated[Time | None, Query(description="That time does not count.")] = None,
) -> Page[AuditEvent]:
    """Rows of the audit trail, newest first. `vigil audit verify` proves that it is whole."""
    with parts.store.transaction() as session:
        query = TrailQuery(study_key=study, action=action, actor=actor, since=since, until=until)
        found = trail.listed(session, place, query)
        _on_record(session, caller, place, found)
    return _page(Page[AuditEvent], parts.disclaimer, found)


def _on_record(session: Session, caller: Caller, place: paging.Place, found: paging.Page[Any]) -> None:
    """Note who asked for a list of studies, or for the trail of who did what to them."""
    address, _, filters = place.of.partition("?")
    what = address.rpartition("/")[2]
    looks.queried(session, what, dict(parse_qsl(filters)), found=len(found.items), actor=caller.name)


def _models(parts: PartsOf) -> list[KnownModel]:
    with parts.store.transaction() as session:
        known = known_models.known_models(session)
    serving = parts.model_now
    models = [
        KnownModel(
            sha256=model.sha256,
            name=model.name,
            version=model.version,
            is_in_service=serving is not None and serving.sha256 == model.sha256,
            scores=model.scores,
            first_at=model.first_at,
            last_at=model.last_at,
            reference_group=None,
            reference_n=None,
            calibrated_on=None,
            calibration_sha256=None,
        )
        for model in known
    ]
    if serving is None:
        return models
    used = next((model for model in models if model.is_in_service), None)
    in_service = KnownModel(
        sha256=serving.sha256,
        name=serving.name,
        version=serving.version,
        is_in_service=True,
        scores=used.scores if used else dict.fromkeys(State, 0),
        first_at=used.first_at if used else None,
        last_at=used.last_at if used else None,
        reference_group=serving.group,
        reference_n=serving.n,
        calibrated_on=serving.calibrated_on,
        calibration_sha256=serving.calibration_sha256,
    )
    return [in_service, *(model for model in models if not model.is_in_service)]


P = TypeVar("P", bound=Page[Any])


def _page(kind: type[P], disclaimer: str, found: paging.Page[Any]) -> P:
    return kind.model_validate(
        {
            "disclaimer": disclaimer,
            "items": found.items,
            "next": found.next,
            "previous": found.previous,
        }
    )
