"""The pages, rendered here: nothing is loaded from elsewhere, and all of them work without a script."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Query, Request, params
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

from service import __version__, why
from service.access import Caller, Masking
from service.errors import UnknownStudyError
from service.store import Store, looks
from service.store.worklist import KEY_PATTERN
from service.study import Band, Whereabouts
from service.web import links, present, study, words
from service.web.shapes import SHAPES

HERE = Path(__file__).parent
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
        span=present.span,
        step=present.step,
        basis_of=present.basis_of,
        day=links.day,
        size=present.size,
        ticks=present.ticks,
        standing=present.standing,
        duration=present.duration,
        caution=present.caution,
        reason=words.reason,
        trigger=words.trigger,
    )
    environment.globals.update(
        words=words,
        shapes=SHAPES,
        Band=Band,
        Whereabouts=Whereabouts,
        version=__version__,
        refresh_s=REFRESH_S,
        small_group=present.SMALL_GROUP,
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
    longest_unread_s, masking
        As for the list (`service.store.worklist.worklist`).
    card_of : callable
        Hash of a model to the Markdown of its card; None where this machine has none.
    """

    store: Store
    disclaimer: str
    longest_unread_s: float
    masking: Masking
    card_of: Callable[[str], str | None]
    _templates: Environment = field(default_factory=_environment)

    def router(self, may_view: params.Depends) -> APIRouter:
        """Routes of the pages of one study, behind a dependency that lets in who may view."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/studies/{key}", self.read_study, dependencies=[may_view])
        return router

    @staticmethod
    def static() -> StaticFiles:
        """The style sheet and the icon."""
        return StaticFiles(directory=HERE / "static")

    def read_study(
        self, request: Request, key: str, frame: Annotated[int | None, Query(ge=0, le=100_000)] = None
    ) -> HTMLResponse:
        """One study; `frame` is the picture shown large, from 0."""
        if not re.fullmatch(KEY_PATTERN, key):
            raise UnknownStudyError(UnknownStudyError.__doc__)
        caller: Caller = request.state.caller
        with self.store.transaction() as session:
            shown = study.gather(
                session,
                key,
                caller=caller,
                frame=frame,
                longest_unread_s=self.longest_unread_s,
                masking=self.masking,
                card_of=self.card_of,
            )
            looks.viewed(session, key, actor=caller.name)
        return self.page("study.html", caller=caller, **shown)

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
