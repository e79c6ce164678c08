"""Which model serves and which only watches, changed by a person: verified, audited, and with a way back."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.orm import Session

from models.artefact import CALIBRATION, MANIFEST, Artefact, PictureArtefact
from models.calibration import read_calibration
from models.errors import ArtefactError, ModelError
from models.verification import verify_artefact
from service import engine, wiring
from service.active import activate
from service.engine import Pool
from service.errors import TriageError
from service.pointers import Named
from service.settings import Settings
from service.shadowed import clear_shadow, set_shadow, shadow_of
from service.store import Store, audit, calibrations, shadows

ACTOR = "operator"


class FixedModelError(TriageError):
    """VIGIL_MODEL names the model that serves. Unset it, or name another one there."""


class NoShadowError(TriageError):
    """No model watches, so there is none to promote. Name one by `vigil models shadow ARTEFACT`."""


class NothingBeforeError(TriageError):
    """No model before this one is remembered. Choose one by `vigil models activate ARTEFACT`."""


class ServesAlreadyError(TriageError):
    """The model is in service. A shadow beside itself says nothing: name another artefact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What serves, or watches, now.

    Attributes
    ----------
    name, version, sha256 : str
    before : str or None
        Hash of what it took the place of.
    calibration : str
        In words: what its percentiles rest on.
    queued : int
        Studies that a shadow catches up with.
    """

    name: str
    version: str
    sha256: str
    before: str | None
    calibration: str
    queued: int = 0


def put_in_service(settings: Settings, store: Store, artefact: Path) -> Changed:
    """Let an artefact serve from now on.

    Raises
    ------
    FixedModelError
        If the settings name the model.
    ArtefactError
        If it is not whole, or cannot serve.
    """
    return _serve(settings, store, verify_artefact(artefact), "model.activated")


def promote(settings: Settings, store: Store) -> Changed:
    """Let the shadow serve from now on; nothing watches then.

    Raises
    ------
    NoShadowError
        If none watches.
    FixedModelError
        If the settings name the model.
    ArtefactError
        If it is not whole, cannot serve, or is not what was chosen.
    """
    chosen = shadow_of(settings.data)
    if chosen is None:
        raise NoShadowError(NoShadowError.__doc__)
    return _serve(settings, store, _verified(chosen), "model.promoted", was_shadow=True)


def roll_back(settings: Settings, store: Store) -> Changed:
    """Let the model serve again that served before this one.

    Raises
    ------
    NothingBeforeError
        If none is remembered.
    FixedModelError
        If the settings name the model.
    ArtefactError
        If it is not whole, cannot serve, or is not what it was.
    """
    remembered = wiring.active_model(settings).remembered()
    if not remembered:
        raise NothingBeforeError(NothingBeforeError.__doc__)
    target, *older = remembered
    return _serve(settings, store, _verified(target), "model.rolled_back", before=tuple(older))


def stop_watching(settings: Settings, store: Store) -> str | None:
    """Let nothing watch any more; return the hash of what did. What it said of studies stays."""
    before = shadow_of(settings.data)
    if before is None:
        return None
    with store.transaction() as session:
        _cancel(session, shadows.drop_waiting(session))
        audit.append(session, "model.shadow_ended", actor=ACTOR, before=before.sha256)
        clear_shadow(settings.data)
    return before.sha256


def watch(settings: Settings, store: Store, artefact: Path, *, catch_up: int) -> Changed:
    """Let an artefact watch from now on.

    Parameters
    ----------
    settings : Settings
    store : Store
    artefact : Path
    catch_up : int
        Studies scored before, newest first, that it looks at as well.

    Raises
    ------
    ServesAlreadyError
        If it is the model in service.
    ArtefactError
        If it is not whole, or cannot serve.
    """
    found = verify_artefact(artefact)
    if found.sha256 == _serving(settings):
        raise ServesAlreadyError(ServesAlreadyError.__doc__)
    before = shadow_of(settings.data)
    now = datetime.now(UTC)
    is_same = before is not None and before.sha256 == found.sha256
    with store.transaction() as session:
        if not is_same:
            _cancel(session, shadows.drop_waiting(session))
            audit.append(
                session,
                "model.shadowed",
                actor=ACTOR,
                model_name=found.manifest.name,
                model_version=found.manifest.version,
                model_hash=found.sha256,
                before=before.sha256 if before else None,
            )
        queued = shadows.want(session, found.sha256, since=None, limit=catch_up) if catch_up else 0
        calibration = calibration_of(session, found, is_shadow=True)
        set_shadow(settings.data, found, since=before.since if before and is_same else now)
    return Changed(
        name=found.manifest.name,
        version=found.manifest.version,
        sha256=found.sha256,
        before=before.sha256 if before else None,
        calibration=calibration,
        queued=queued,
    )


def calibration_of(session: Session, artefact: Artefact | PictureArtefact, *, is_shadow: bool = False) -> str:
    """Return in words what the percentiles of an artefact rest on here, or that there will be none."""
    document = calibrations.accepted(session, artefact.sha256)
    if document is not None:
        return f"calibration document {document.sha256[:16]}, version {document.version}"
    if is_shadow or calibrations.sha256_in_force(session, artefact.sha256) is None:
        own = read_calibration(artefact.path / CALIBRATION)
        return f"its own calibration, {own.group}, n = {own.n}"
    return "none: every study is uncalibrated until a calibration document of this model is accepted"


def _serve(
    settings: Settings,
    store: Store,
    found: Artefact | PictureArtefact,
    action: str,
    *,
    before: tuple[Named, ...] | None = None,
    was_shadow: bool = False,
) -> Changed:
    """Let a verified artefact serve; `before` is what is remembered then, unset: what serves now as well."""
    if settings.model is not None:
        raise FixedModelError(FixedModelError.__doc__)
    active = wiring.active_model(settings)
    replaced = _serving(settings)
    with store.transaction() as session:
        if was_shadow:
            _cancel(session, shadows.drop_waiting(session))
        audit.append(
            session,
            action,
            actor=ACTOR,
            model_name=found.manifest.name,
            model_version=found.manifest.version,
            model_hash=found.sha256,
            before=replaced,
        )
        calibration = calibration_of(session, found)
        activate(settings.data, found, before=active.before(found) if before is None else before)
        if was_shadow:
            clear_shadow(settings.data)
    return Changed(
        name=found.manifest.name,
        version=found.manifest.version,
        sha256=found.sha256,
        before=replaced,
        calibration=calibration,
    )


def _serving(settings: Settings) -> str | None:
    """Hash of the model in service; None where it is broken: a change is how that is mended."""
    try:
        return wiring.model_identity(settings).sha256
    except (ModelError, TriageError):
        return None


def _verified(named: Named) -> Artefact | PictureArtefact:
    """An artefact that was chosen before, checked and run as if it were new."""
    found = verify_artefact(named.path)
    if found.sha256 != named.sha256:
        raise ArtefactError(named.path / MANIFEST, "is not what was chosen; restore it, or choose another")
    return found


def _cancel(session: Session, row_ids: Iterable[int]) -> None:
    """Take what nothing will look at any more out of the queue."""
    for row_id in row_ids:
        engine.cancel(session, Pool.SHADOW, row_id)
