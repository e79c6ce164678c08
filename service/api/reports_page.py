"""The page of reports: what readers said, and a model that only watches."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from service import reader_report
from service.access import Permission
from service.api import shadow
from service.api.callers import Viewer, require
from service.api.dependencies import PartsOf, refuse_unknown_parameters


def router(page: Callable[..., HTMLResponse]) -> APIRouter:
    """Route of the page.

    Parameters
    ----------
    page : callable
        Renders a template by name.
    """
    routes = APIRouter(
        include_in_schema=False,
        default_response_class=HTMLResponse,
        dependencies=[Depends(refuse_unknown_parameters)],
    )

    @routes.get("/reports", dependencies=[Depends(require(Permission.VIEW))])
    def show(parts: PartsOf, caller: Viewer) -> HTMLResponse:
        """What readers said, counted; and the shadow, for who may change models or what is done with them."""
        with parts.store.transaction() as session:
            report = reader_report.read_report(session, now=datetime.now(UTC))
        shown: dict[str, Any] = {"may_compare": caller.may(Permission.OPERATE)}
        if shown["may_compare"]:
            model, rows, agreement = shadow.beside(parts)
            shown |= {"shadow": model, "rows": rows, "agreement": agreement, "served": parts.model_now}
        return page("reports.html", caller=caller, report=report, **shown)

    return routes
