"""The pages: the list and one study. Rendered here, no script, nothing loaded from elsewhere."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Query, Request, params
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

from service import __version__, why
from service.access import Masking
from service.errors import UnknownStudyError
from service.store import Store
from service.store.census import live_workers
from service.store.detail import study_detail
from service.store.worklist import KEY_PATTERN, worklist
from service.study import Band, Whereabouts
from service.web import present, words

HERE = Path(__file__).parent
PAGE_LENGTH = 200
REFRESH_S = 5


class Told(Protocol):
    """A problem, as far as a page shows it."""

    title: str
    status: int
    detail: str
    remedy: str


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,  # descriptions are the text of strangers
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percentile=why.percentile,
        number=present.number,
        short=present.short,
        clock=present.clock,
        ago=present.ago,
        size=present.size,
        ticks=present.ticks,
        standing=present.standing,
        caution=present.caution,
        reason=words.reason,
        trigger=words.trigger,
    )
    environment.globals.update(
        words=words, Band=Band, Whereabouts=Whereabouts, version=__version__, refresh_s=REFRESH_S
    )
    return environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The page routes.

    Attributes
    ----------
    store : Store
    disclaimer : str
        Stands on every page.
    stalled_s : float
        Seconds without a heartbeat after which a worker counts as gone.
    longest_unread_s, masking
        As for the list (`service.store.worklist.worklist`).
    """

    store: Store
    disclaimer: str
    stalled_s: float
    longest_unread_s: float
    masking: Masking
    _templates: Environment = field(default_factory=_environment)

    def router(self, may_view: params.Depends) -> APIRouter:
        """Routes of the two pages, behind a dependency that lets in who may view."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/", self.read_list, dependencies=[may_view])
        router.add_api_route("/studies/{key}", self.read_study, dependencies=[may_view])
        return router

    @staticmethod
    def static() -> StaticFiles:
        """The style sheet and the icon."""
        return StaticFiles(directory=HERE / "static")

    def read_list(
        self,
        request: Request,
        cursor: Annotated[str | None, Query(max_length=1000)] = None,
        live: Literal["on", "off"] = "on",
    ) -> HTMLResponse:
        """The worklist."""
        with self.store.transaction() as session:
            found = worklist(
                session,
                cursor=cursor,
                limit=PAGE_LENGTH,
                longest_unread_s=self.longest_unread_s,
                masking=self.masking,
            )
            workers = live_workers(session, stalled_s=self.stalled_s)
        bands = {band: [row for row in found.rows if row.band is band] for band in Band}
        return self.page(
            "worklist.html",
            caller=request.state.caller,
            found=found,
            bands=bands,
            workers=workers,
            cursor=cursor,
            refresh=live == "on",
        )

    def read_study(
        self, request: Request, key: str, frame: Annotated[int | None, Query(ge=0, le=100_000)] = None
    ) -> HTMLResponse:
        """One study; `frame` is the picture shown large, from 0."""
        if not re.fullmatch(KEY_PATTERN, key):
            raise UnknownStudyError(UnknownStudyError.__doc__)
        with self.store.transaction() as session:
            detail = study_detail(session, key, longest_unread_s=self.longest_unread_s, masking=self.masking)
        current = detail.current if detail.row.assessment else None
        thumbnails = (
            present.strip(current.pictures, current.regions) if current and detail.has_pictures else []
        )
        first = thumbnails[0].frame if thumbnails else 0
        return self.page(
            "study.html",
            caller=request.state.caller,
            detail=detail,
            row=detail.row,
            current=detail.current,
            thumbnails=thumbnails,
            frame=min(first if frame is None else frame, max(current.pictures - 1, 0)) if current else 0,
            refresh=detail.row.band is Band.PENDING,
        )

    def problem(self, told: Told) -> HTMLResponse:
        """Page that says what went wrong and what to do."""
        waits = told.status == HTTPStatus.SERVICE_UNAVAILABLE
        return self.page("problem.html", status=told.status, told=told, refresh=waits)

    def page(self, template: str, *, status: int = HTTPStatus.OK, **context: Any) -> HTMLResponse:
        """One of our pages."""
        text = self._templates.get_template(template).render(
            {"caller": None, "refresh": False, "disclaimer": self.disclaimer, "now": datetime.now(UTC)}
            | context
        )
        return HTMLResponse(text, status)
