"""Is the process alive, and can it do its work? For supervisors and load balancers."""

from http import HTTPStatus

from fastapi import APIRouter, Depends

from service import __version__
from service.api.callers import ask_directly, open_to_all
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.problems import ProblemError
from service.api.schemas import Health, Readiness
from service.errors import SchemaBehindError, SchemaError
from service.store.census import live_workers
from service.store.migrations import require

router = APIRouter(
    tags=["operations"], dependencies=[Depends(open_to_all), Depends(refuse_unknown_parameters)]
)


@router.get("/healthz")
async def read_health() -> Health:
    """The process answers. Nothing else is asked, so that a database outage restarts nobody."""
    # No thread either: while the database hangs, each of them may wait for it.
    return Health(status="alive", version=__version__)


@router.get("/readyz", dependencies=[Depends(ask_directly)])
def read_readiness(parts: PartsOf) -> Readiness:
    """The database answers and has the schema of this version; 503 with the reason otherwise."""
    parts.store.check()
    try:
        require(parts.store)
    except SchemaError as error:
        is_behind = isinstance(error, SchemaBehindError)
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "schema-outdated" if is_behind else "schema-ahead",
            "The database has another schema than this version of Vigil needs.",
            "Run `vigil db upgrade` with this version." if is_behind else "Upgrade this Vigil.",
        ) from error
    with parts.store.transaction() as session:
        workers = live_workers(session, stalled_s=parts.settings.stalled_s)
    return Readiness(status="ready", version=__version__, workers=workers.processes)
