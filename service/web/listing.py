"""The list: one page people live in. Plain links and forms; scripts make it live, and nothing needs them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Path, Query, Request, params
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from models.scores import ModelIdentity
from service.access import Caller, Masking, Permission, ShownIdentity, mask
from service.calibrations import Calibrations
from service.errors import RevisionChangedError, ScoreChangedError, UnknownStudyError
from service.filters import NO_NUL, asked, read_filters
from service.replay import replay
from service.settings import Settings
from service.store import Store, identities, looks, marks, saved_filters
from service.store.order import Sort, WorklistQuery
from service.store.pulse import take_pulse
from service.store.rows import WorklistRow
from service.store.score_counts import count_scores
from service.store.shown import PATTERN
from service.store.thumbnails import thumbnails
from service.store.worklist import KEY_PATTERN, Worklist, count_band, worklist, worklist_row
from service.study import Band, Priority, State
from service.web import present, words
from service.web.histogram import Histogram, edges_of, histogram
from service.web.links import FILTERS, address, inside, known, tidy

PAGE_LENGTH = 100
MOST_UPDATED = 50  # rows asked for at once, to be changed in place
SEE_OTHER = 303
LARGEST = 2**31 - 1
SCRIPT = "hx-request"  # header of what the script of the page asks for

Page = Callable[..., HTMLResponse]
Text = Annotated[str, Form(max_length=saved_filters.LONGEST_QUERY)]
OneKey = Annotated[str, Query(pattern=KEY_PATTERN)]
Key = Annotated[str, Path(pattern=KEY_PATTERN)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Dependencies that let in who may, as `service.api` makes them."""

    view: params.Depends
    read: params.Depends
    operate: params.Depends
    strict: params.Depends  # refuses a filter nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """Whom studies are compared with.

    Attributes
    ----------
    label : str
    n : int
        Reference studies.
    sha256 : str
        Of the calibration.
    scores : tuple of float
        Theirs, ascending; empty where they are not known here.
    """

    label: str
    n: int
    sha256: str
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The routes of the list.

    Attributes
    ----------
    store : Store
    settings : Settings
    page : callable
        Renders a template by name.
    model : callable
        The model in service now, or None.
    reference : callable, optional
        Raw scores of its reference group, ascending.
    calibrations : Calibrations, optional
        What is in force in place of that.
    """

    store: Store
    settings: Settings
    page: Page
    model: Callable[[], ModelIdentity | None]
    reference: Callable[[], Sequence[float]] | None = None
    calibrations: Calibrations | None = None

    def router(self, access: Access) -> APIRouter:
        """Routes of the list and of what people do on it."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/", self.show, dependencies=[access.view, access.strict])
        router.add_api_route("/filter", self.narrow, dependencies=[access.view])
        router.add_api_route("/rows", self.update, dependencies=[access.view, access.strict])
        router.add_api_route("/filters", self.save, methods=["POST"], dependencies=[access.view])
        router.add_api_route(
            "/filters/{index}/remove", self.remove, methods=["POST"], dependencies=[access.view]
        )
        for path, do, may in (
            ("seen", self.mark_seen, access.read),
            ("reveal", self.reveal, access.read),
            ("rescore", self.rescore, access.operate),
        ):
            router.add_api_route(f"/studies/{{key}}/{path}", do, methods=["POST"], dependencies=[may])
        return router

    def show(
        self,
        request: Request,
        query: Annotated[WorklistQuery, Depends(read_filters)],
        cursor: Annotated[str | None, Query(max_length=1000)] = None,
        live: Literal["on", "off"] = "on",
    ) -> HTMLResponse:
        """The worklist."""
        caller: Caller = request.state.caller
        model = self.model()
        given = dict(request.query_params)
        with self.store.transaction() as session:
            found = worklist(
                session,
                query,
                cursor=cursor,
                limit=PAGE_LENGTH,
                longest_unread_s=self.settings.longest_unread_s,
                masking=self.settings.masking,
            )
            context = {
                "unjudged": count_band(session, Band.UNJUDGED),
                "uncalibrated": count_band(session, Band.UNCALIBRATED),
                "pulse": take_pulse(
                    session,
                    stalled_s=self.settings.stalled_s,
                    model_sha256=None if model is None else model.sha256,
                ),
                "saved": saved_filters.of_owner(session, self._owner(caller)),
                "calibrated": (calibrated := self._calibrated(session, model)),
                "histogram": self._histogram(session, model, calibrated),
                "thumbnails": thumbnails(session, [row.key for row in found.rows]),
            }
            # Last: whoever appends holds the audit trail until its transaction ends.
            looks.queried(session, "worklist", asked(query), found=found.total, actor=caller.name)
        return self.page(
            "worklist.html",
            **self._row_context(caller, address(given)),
            **context,
            found=found,
            is_narrowed=not query.is_everything,
            bands={band: [row for row in found.rows if row.band is band] for band in Band},
            common=present.common_basis(found.rows),
            links=_links(given, found),
            asked={name: given.get(name, "") for name in FILTERS},
            states=[(state, address({"state": state.value}), found.counts[state]) for state in State],
            namings={
                "priorities": [
                    (item.name.lower(), words.PRIORITIES[item]) for item in sorted(Priority, reverse=True)
                ],
                "states": [(item.value, words.STATES[item]) for item in State],
                "sorts": [(item.value, words.SORTS[item]) for item in Sort],
            },
            query=urlencode({name: value for name, value in given.items() if name in FILTERS}),
            model=model,
            refresh=live == "on",
        )

    def narrow(self, request: Request) -> Response:
        """The filter form leads to the address that says what was asked, and no more."""
        return RedirectResponse(address(tidy(request.query_params)), SEE_OTHER)

    def update(
        self,
        request: Request,
        key: Annotated[list[OneKey], Query(min_length=1, max_length=MOST_UPDATED)],
    ) -> HTMLResponse:
        """What may change of a row without it moving: state and deliveries."""
        with self.store.transaction() as session:
            rows = [row for one in key if (row := self._row(session, one)) is not None]
        return self.page("updates.html", caller=request.state.caller, rows=rows)

    def save(
        self,
        request: Request,
        name: Annotated[str, Form(min_length=1, max_length=saved_filters.LONGEST_NAME, pattern=NO_NUL)],
        query: Text = "",
    ) -> Response:
        """Give the filter in use a name."""
        kept = known(query)
        with self.store.transaction() as session:
            owner = self._owner(request.state.caller)
            saved_filters.save(session, owner, name=name.strip() or name, query=urlencode(kept))
        return RedirectResponse(address(kept), SEE_OTHER)

    def remove(self, request: Request, index: int, back: Text = "/") -> Response:
        """Forget a saved filter of one's own."""
        with self.store.transaction() as session:
            saved_filters.remove(session, self._owner(request.state.caller), index)
        return RedirectResponse(inside(back), SEE_OTHER)

    def mark_seen(
        self,
        request: Request,
        key: Key,
        back: Text = "/",
        revision: Annotated[int | None, Form(ge=1, le=LARGEST)] = None,
        score: Annotated[str | None, Form(pattern=PATTERN)] = None,
    ) -> Response:
        """Note that the caller has looked at a study as it stood on the page."""
        try:
            with self.store.transaction() as session:
                marks.mark_seen(session, key, actor=request.state.caller.name, revision=revision, score=score)
        except (RevisionChangedError, ScoreChangedError):
            if SCRIPT not in request.headers:
                raise
            changed = self._shown(request, key, back)
            changed.status_code = HTTPStatus.CONFLICT
            return changed
        return self._done(request, key, back)

    def reveal(self, request: Request, key: Key, back: Text = "/") -> Response:
        """Show whom one study is about; the address does not say it, so it is the answer itself."""
        with self.store.transaction() as session:
            identity = identities.reveal(session, key, actor=request.state.caller.name)
        return self._shown(request, key, back, mask(identity, Masking.FULL))

    def rescore(self, request: Request, key: Key, back: Text = "/") -> Response:
        """Give a study that failed another chance."""
        with self.store.transaction() as session:
            replay(session, key, actor=request.state.caller.name)
        return self._done(request, key, back)

    def _done(self, request: Request, key: str, back: str) -> Response:
        """Answer the changed row to a script, and the page that the form was on to a browser without one."""
        if SCRIPT not in request.headers:
            return RedirectResponse(inside(back), SEE_OTHER)
        return self._shown(request, key, back)

    def _shown(
        self, request: Request, key: str, back: str, identity: ShownIdentity | None = None
    ) -> HTMLResponse:
        with self.store.transaction() as session:
            row = self._row(session, key)
            pictures = thumbnails(session, [key])
        if row is None:
            raise UnknownStudyError(UnknownStudyError.__doc__)
        return self.page(
            "row.html" if SCRIPT in request.headers else "one.html",
            **self._row_context(request.state.caller, inside(back)),
            row=replace(row, identity=identity) if identity else row,
            thumbnails=pictures,
            common=None if row.assessment is None else present.basis_of(row.assessment),
        )

    def _owner(self, caller: Caller) -> str:
        """Whose filters these are; in open access nobody has a name, and all share them."""
        return caller.name

    def _row(self, session: Session, key: str) -> WorklistRow | None:
        return worklist_row(
            session,
            key,
            longest_unread_s=self.settings.longest_unread_s,
            masking=self.settings.masking,
        )

    def _row_context(self, caller: Caller, here: str) -> Mapping[str, Any]:
        return {
            "caller": caller,
            "csrf": caller.csrf,
            "here": here,
            "masking": self.settings.masking.value,
            "may_read": caller.may(Permission.READ),
            "may_operate": caller.may(Permission.OPERATE),
        }

    def _calibrated(self, session: Session, model: ModelIdentity | None) -> Calibrated | None:
        """Whom studies are compared with now; None where the model is not known."""
        if model is None:
            return None
        known = self.calibrations
        document = known.in_force(session, model.sha256).calibrated.document if known else None
        if document is None:
            own = tuple(self.reference()) if self.reference else ()
            return Calibrated(label=model.group, n=model.n, sha256=model.calibration_sha256, scores=own)
        groups = len(document.strata)
        return Calibrated(
            label=f"version {document.version} of {document.made_on}, "
            f"{groups} {'group' if groups == 1 else 'groups'}",
            n=document.n,
            sha256=document.sha256,
            scores=tuple(sorted(score for stratum in document.strata for score in stratum.scores)),
        )

    @staticmethod
    def _histogram(
        session: Session, model: ModelIdentity | None, calibrated: Calibrated | None
    ) -> Histogram | None:
        """Scores of today against those of the reference; None where that is not known."""
        if model is None or calibrated is None or not calibrated.scores:
            return None
        counts = count_scores(
            session,
            model_sha256=model.sha256,
            calibration_sha256=calibrated.sha256,
            since=datetime.combine(datetime.now().astimezone().date(), time()).astimezone(),
            edges=edges_of(calibrated.scores),
        )
        return histogram(calibrated.scores, counts)


def _links(given: Mapping[str, str], found: Worklist) -> dict[str, str | None]:
    """Addresses of the page beside this one, and of the same page paused or live."""
    base = {name: value for name, value in given.items() if name not in {"cursor", "live"}}
    stay = {name: value for name, value in given.items() if name != "live"}
    live = {"live": given["live"]} if "live" in given else {}
    return {
        "previous": address(base | live | {"cursor": found.previous}) if found.previous else None,
        "next": address(base | live | {"cursor": found.next}) if found.next else None,
        "pause": address(stay | {"live": "off"}),
        "resume": address(stay),
    }
