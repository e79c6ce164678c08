"""Whether studies get a percentile: calibration, scanners whose images changed; and the shadow model."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from models.errors import ModelError
from service import wiring
from service.doctor.answers import Check, ok, unused, warning
from service.errors import SettingsError
from service.settings import Settings
from service.shadowed import shadow_of
from service.store import Store, calibrations, scanners, watches
from service.study import Band

LOOKED_AT = timedelta(days=7)  # what came before says little of the scanners of today


def examine(settings: Settings, store: Store) -> Iterator[Check]:
    """The calibration in force, the scanners of the last days, the shadow."""
    try:
        model = wiring.model_identity(settings).sha256
    except (ModelError, SettingsError):  # told where the model is looked at
        pass
    else:
        with store.transaction() as session:
            yield _calibration(session, model)
            yield from _scanners(session, model)
    yield _shadow(settings)


def _calibration(session: Session, model: str) -> Check:
    """Whether what is in force was made for the model in service."""
    sha256 = calibrations.sha256_in_force(session, model)
    if sha256 is None:
        return ok("trust", "calibration", "the model's own; the site has accepted none")
    document = calibrations.read(session, sha256)
    if document.model_sha256 != model:
        return warning(
            "trust",
            "calibration",
            f"{sha256[:16]} is of another model than the one in service: no study has a percentile",
            "Accept one for this model (`vigil calibrations list`, docs/commissioning.md), or go back with"
            " `vigil models rollback`.",
        )
    return ok(
        "trust", "calibration", f"{sha256[:16]}, {len(document.strata)} groups, of the model in service"
    )


def _scanners(session: Session, model: str) -> Iterator[Check]:
    """Whose percentile does not hold, and who never had one."""
    withdrawn = watches.withdrawn(session, model, calibrations.sha256_in_force(session, model)).groups
    if withdrawn:
        yield warning(
            "trust",
            "drift",
            f"the images of {len(withdrawn)} scanners changed: their studies have no percentile",
            "See them on the page /scanners or with `vigil drift list`; commission them again, or say that"
            " it is a false alarm with `vigil drift dismiss`.",
        )
    else:
        yield ok("trust", "drift", "no scanner's percentile is withdrawn")
    since = datetime.now(UTC) - LOOKED_AT
    counted = scanners.count_groups(session, model, since=since, bands=(Band.UNCALIBRATED,))
    without = [one for one in counted if one.group.scanner.key not in withdrawn]
    if without:
        names = len({one.group.scanner.key for one in without})
        yield warning(
            "trust",
            "uncalibrated",
            f"{sum(one.uncalibrated for one in without)} studies of {names} scanners in {LOOKED_AT.days} days"
            " have no percentile: nothing calibrates them",
            "Commission them: the page /scanners, docs/commissioning.md.",
        )
    else:
        yield ok("trust", "uncalibrated", f"every scanner of the last {LOOKED_AT.days} days is calibrated")


def _shadow(settings: Settings) -> Check:
    try:
        chosen = shadow_of(settings.data)
        if chosen is None:
            return unused("trust", "shadow", "no model only watches")
        chosen.load()
    except (ModelError, SettingsError) as error:
        return warning(
            "trust",
            "shadow",
            str(error),
            "Name it again with `vigil models shadow ARTEFACT`, or end it with `vigil models shadow --none`;"
            " what is in service goes on without it.",
        )
    return ok("trust", "shadow", f"{chosen.sha256[:16]} is whole")
