"""The page of the scanners: who is calibrated how, what is proposed, the decision. Plain forms, no script."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Path, Request, params
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from models.scores import ModelIdentity
from service.access import Caller, Permission
from service.admission import Admission
from service.calibrations import Calibrations
from service.commissioning import Rescored, rescore_calibrated
from service.filters import NO_NUL
from service.scanners import Proposal, survey
from service.settings import Settings
from service.store import Store
from service.store import calibrations as decisions
from service.web.histogram import Histogram, edges_of, histogram

LOOKED_BACK = timedelta(days=90)
LONGEST = 500  # Characters of a reason.

Page = Callable[..., HTMLResponse]
Number = Annotated[int, Path(ge=1, lt=2**63)]
Reason = Annotated[str, Form(max_length=LONGEST, pattern=NO_NUL)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannersPage:
    """The routes of the page.

    Attributes
    ----------
    store : Store
    settings : Settings
    page : callable
        Renders a template by name.
    model : callable
        The model in service now, or None.
    calibrations : Calibrations or None
        None where this process does not know what is in force.
    reference : callable
        Scores of the model's own reference, ascending.
    """

    store: Store
    settings: Settings
    page: Page
    model: Callable[[], ModelIdentity | None]
    calibrations: Calibrations | None
    reference: Callable[[], Sequence[float]]

    def router(self, *, operate: params.Depends, administer: params.Depends) -> APIRouter:
        """Routes, behind dependencies that let in who may look, and who may decide."""
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/scanners", self.show, dependencies=[operate])
        router.add_api_route("/scanners/rescore", self.rescore, methods=["POST"], dependencies=[operate])
        for path, do in (("accept", self.accept), ("refuse", self.refuse), ("retire", self.retire)):
            router.add_api_route(
                f"/scanners/calibrations/{{calibration_id}}/{path}",
                do,
                methods=["POST"],
                dependencies=[administer],
            )
        return router

    def show(self, request: Request) -> HTMLResponse:
        """Every scanner whose studies came of late, and what waits for a decision."""
        return self._show(request, told=None)

    def accept(self, request: Request, calibration_id: Number, reason: Reason = "") -> Response:
        """Put a document in force."""
        with self.store.transaction() as session:
            decisions.accept(session, calibration_id, actor=request.state.caller.name, reason=reason.strip())
        return _back()

    def refuse(self, request: Request, calibration_id: Number, reason: Reason = "") -> Response:
        """Say no to a proposal."""
        with self.store.transaction() as session:
            decisions.refuse(session, calibration_id, actor=request.state.caller.name, reason=reason.strip())
        return _back()

    def retire(self, request: Request, calibration_id: Number, reason: Reason = "") -> Response:
        """Go back to the document before."""
        with self.store.transaction() as session:
            decisions.retire(session, calibration_id, actor=request.state.caller.name, reason=reason.strip())
        return _back()

    def rescore(self, request: Request) -> HTMLResponse:
        """Score again the uncalibrated studies for which there is a reference now."""
        model, known = self.model(), self.calibrations
        told = None
        if model is not None and known is not None:
            ours = Admission(model_hash=lambda: model.sha256, config_digest=known.config_digest)
            with self.store.transaction() as session:
                told = rescore_calibrated(session, known, ours, actor=request.state.caller.name)
        return self._show(request, told=told)

    def _show(self, request: Request, *, told: Rescored | None) -> HTMLResponse:
        caller: Caller = request.state.caller
        model, found = self.model(), None
        if model is not None and self.calibrations is not None:
            with self.store.transaction() as session:
                found = survey(
                    session,
                    self.calibrations,
                    model,
                    since=datetime.now(UTC) - LOOKED_BACK,
                    own_reference=self.reference(),
                )
        return self.page(
            "scanners.html",
            caller=caller,
            csrf=caller.csrf,
            may_decide=caller.may(Permission.ADMINISTER),
            model=model,
            found=found,
            told=told,
            wanted=self.settings.commission_studies,
            days=LOOKED_BACK.days,
            histograms={
                one.calibration.id: _histogram(one) for one in (found.proposals if found is not None else ())
            },
        )


def _histogram(proposal: Proposal) -> Histogram:
    """Proposed scores above those of now; where there are none, the proposed stand alone."""
    edges = edges_of(proposal.before or proposal.scores)
    counts = [0] * (len(edges) + 1)
    for score in proposal.scores:
        counts[bisect_right(edges, score)] += 1
    if proposal.before:
        return histogram(proposal.before, counts)
    alone = histogram(proposal.scores, counts)
    return Histogram(bins=tuple(one.without_reference() for one in alone.bins))


def _back() -> RedirectResponse:
    return RedirectResponse("/scanners", HTTPStatus.SEE_OTHER)
