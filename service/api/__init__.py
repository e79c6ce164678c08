"""The HTTP application: the API under ``/api/v1``, the operations routes, and the pages."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from models.scores import ModelIdentity
from service import __version__
from service.access import Permission
from service.active import ActiveModel
from service.api import (
    administration,
    cohorts,
    dicomweb,
    dicomweb_pictures,
    dicomweb_retrieve,
    dicomweb_search,
    events,
    fhir,
    health,
    metrics,
    operating,
    people,
    problems,
    reading,
    records,
    referral_pages,
    referrals,
    reports,
    reports_page,
    resources,
    shadow,
    signin,
    single,
    studies,
    viewer,
    workitem_channel,
    workitems,
    worklist,
)
from service.api import calibrations as deciding
from service.api.alive import lifespan
from service.api.callers import require
from service.api.dependencies import Parts, refuse_unknown_parameters
from service.api.entry import Entry
from service.api.guard import Guard
from service.api.hub import Hub
from service.api.names import KnownNames
from service.calibrations import Calibrations
from service.cards import Cards
from service.holdings import Holdings
from service.provider import Provider
from service.provision import Provision
from service.settings import Settings
from service.site_address import public_address
from service.store import Store
from service.store.objects import LocalObjects, Unchecked
from service.volumes import Volumes
from service.web import Pages
from service.web.listing import Access, Listing
from service.web.scanners import ScannersPage


class Application(FastAPI):
    """FastAPI inside its guard, whose description holds the problem documents every route may answer with."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put the guard around everything, so that the answer to a defect carries its headers too."""
        parts: Parts = self.state.parts
        known = KnownNames.of(parts.settings.api_host, parts.address)
        return Guard(Entry(super().build_middleware_stack(), self.state.answer, known), known)

    def openapi(self) -> dict[str, Any]:
        """Description of the API (OpenAPI 3.1)."""
        document = super().openapi()
        document["components"]["schemas"] |= problems.schemas()
        return document


def create_app(
    *,
    store: Store,
    settings: Settings,
    model: ModelIdentity | None = None,
    pictures: LocalObjects | None = None,
    volumes: Volumes | None = None,
    holdings: Holdings | None = None,
    follow: Callable[[], ModelIdentity] | None = None,
    calibrations: Calibrations | None = None,
    destinations: Callable[[], Sequence[str]] = tuple,
    reference: Callable[[], Sequence[float]] | None = None,
) -> FastAPI:
    """Application on a store.

    Parameters
    ----------
    store : Store
        Migrated; the application does not close it.
    settings : Settings
    model : ModelIdentity, optional
        The model in service; its disclaimer stands on every page.
    pictures : LocalObjects, optional
        Where the heatmaps are; unset: the results folder of the settings.
    volumes : Volumes, optional
        Scored series as one volume; unset: read from the spool of the settings.
    holdings : Holdings, optional
        Where DICOM objects are; unset: the folders of the settings.
    follow : callable, optional
        The model in service now, for answers, metrics and what is to be scored again.
    calibrations : Calibrations, optional
        What is in force besides the model; without it nothing is scored from here.
    destinations : callable, optional
        Names of the peers that are sent results.
    reference : callable, optional
        Raw scores of its reference group, for the list's histogram.

    Raises
    ------
    SettingsError
        If the file of the identity provider does not say what it should.

    Returns
    -------
    FastAPI
        Serve it with the access log off.
    """
    shown = pictures or Unchecked(settings.results_folder)
    card_of = Cards(active=ActiveModel(data=settings.data, chosen=settings.model)).of
    parts = Parts(
        store=store,
        settings=settings,
        model=model,
        follow=follow,
        calibrations=calibrations,
        card_of=card_of,
        destinations=destinations,
        pictures=shown,
        address=public_address(settings),
        provider=Provider.open(settings.oidc, settings.address) if settings.oidc else None,
        holdings=holdings or Holdings(spool_folder=settings.spool_folder, results=shown),
        volumes=volumes
        or Volumes(provision=Provision(spool_folder=settings.spool_folder), folder=settings.scratch_folder),
    )
    pages = Pages(
        store=store,
        disclaimer=parts.disclaimer,
        longest_unread_s=settings.longest_unread_s,
        masking=settings.masking,
        card_of=card_of,
    )
    listing = Listing(
        store=store,
        settings=settings,
        page=pages.page,
        model=lambda: parts.model_now,
        reference=reference,
        calibrations=calibrations,
    )
    # The interactive documentation of the framework loads scripts from elsewhere; /openapi.json stays.
    app = Application(
        title="Vigil",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        responses=problems.RESPONSES,
        lifespan=lifespan,
    )
    app.state.parts = parts
    app.state.hub = Hub(store)
    app.state.recent_harm = metrics.RecentHarm()
    problems.install(app, pages.problem, signin.sign_in_first)
    for router in (
        worklist.router,
        events.router,
        studies.router,
        records.router,
        viewer.router,
        reading.router,
        reading.shown,
        cohorts.router,
        referrals.router,
        referrals.shown,
        operating.router,
        deciding.router,
        resources.router,
        reports.router,
        shadow.router,
        people.router,
        dicomweb.router,
        fhir.router,
        dicomweb_search.router,
        dicomweb_retrieve.router,
        dicomweb_pictures.router,
        workitems.router,
        workitem_channel.router,
        health.router,
        metrics.router,
        pages.router(Depends(require(Permission.VIEW))),
        listing.router(
            Access(
                view=Depends(require(Permission.VIEW)),
                read=Depends(require(Permission.READ)),
                operate=Depends(require(Permission.OPERATE)),
                strict=Depends(refuse_unknown_parameters),
            )
        ),
        ScannersPage(
            store=store,
            settings=settings,
            page=pages.page,
            model=lambda: parts.model_now,
            calibrations=calibrations,
            reference=reference or tuple,
        ).router(
            operate=Depends(require(Permission.OPERATE)), administer=Depends(require(Permission.ADMINISTER))
        ),
        signin.router(pages.page),
        single.router(pages.page),
        administration.router(pages.page),
        referral_pages.router(pages.page),
        reports_page.router(pages.page),
    ):
        app.include_router(router)
    app.mount("/static", pages.static())
    return app
