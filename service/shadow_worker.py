"""The process of a model that only watches."""

import os
from functools import partial

from models.documents import SiteCalibration
from models.predictor import load_predictor
from service import wiring
from service.engine import Pool
from service.errors import SettingsError
from service.provision import Provision
from service.reception import MB
from service.settings import Settings
from service.shadowed import Shadowed, shadow_of
from service.shadowing import NICE, Shadowing
from service.shares import Shares
from service.store import Store, calibrations
from service.stored import open_object_store, open_scratch
from service.worker import Ended, run_worker


def work_in_the_shadow(settings: Settings, store: Store) -> Ended:
    """Watch until told to stop, until the database goes, or until another model is to watch.

    Raises
    ------
    SettingsError
        If no model watches.
    ArtefactError
        If it is not whole, or not what was chosen.
    """
    chosen = shadow_of(settings.data)
    if chosen is None:
        raise SettingsError("No model watches. Name one by `vigil models shadow ARTEFACT`.")
    os.nice(NICE)
    shadowing = open_shadowing(settings, store, chosen)
    shadowing.follow()
    return run_worker(
        {Pool.SHADOW: shadowing},
        database_url=wiring.database_url(settings),
        reaper=wiring.open_reaper(settings, store, besides=shadowing.follow),
    )


def open_shadowing(settings: Settings, store: Store, chosen: Shadowed) -> Shadowing:
    """Return what the process does, its model loaded."""
    predictor = load_predictor(
        chosen.load(), threads=settings.threads, engines=settings.engines_folder, server=settings.triton
    )
    return Shadowing(
        store=store,
        provision=Provision(
            spool_folder=settings.spool_folder,
            objects=open_object_store(settings),
            scratch=open_scratch(settings),
        ),
        data=settings.data,
        chosen=chosen,
        predictor=predictor,
        calibrated=partial(_calibration_of, store, settings.site, chosen.sha256),
        max_voxels=settings.max_voxels,
        stalled_s=settings.stalled_s,
        memory=Shares(settings.memory_mb * MB),
        scratch_folder=settings.scratch_folder,
    )


def _calibration_of(store: Store, site: str, model_sha256: str) -> SiteCalibration:
    """The document accepted for this model; where there is none its own calibration serves, if only here."""
    with store.transaction() as session:
        return SiteCalibration(document=calibrations.accepted(session, model_sha256), site=site)
