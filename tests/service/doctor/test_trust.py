"""What vigil doctor says of percentiles: who has one, who has none, and who only watches."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from models.artefact import load_artefact
from service import wiring
from service.doctor import Check, Outcome, trust
from service.settings import Settings, load_settings
from service.shadowed import POINTER, set_shadow
from service.store import Store, calibrations
from service.store.tables import GroupWatchRow
from service.study import Origin, State
from tests.picture_models import write_artefact
from tests.reference_documents import HERE, MODEL, OLDER, document
from tests.seeds import Seed, plant, plant_watch

pytestmark = pytest.mark.postgres

NOW = datetime.now(UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data=tmp_path / "data")


@pytest.fixture
def model(settings: Settings) -> str:
    return wiring.model_identity(settings).sha256


def examined(settings: Settings, store: Store) -> dict[str, Check]:
    found = {check.about: check for check in trust.examine(settings, store)}
    assert all(check.remedy for check in found.values() if check.outcome is Outcome.WARNING)
    return found


def accept(store: Store, model: str) -> None:
    with store.transaction() as session:
        made = document({HERE: 30}).model_copy(update={"model_sha256": model})
        proposed = calibrations.propose(session, made, origin=Origin.FILE, actor="ada")
        calibrations.accept(session, proposed.id, actor="ada", reason="checked")


def uncalibrated(name: str, model: str, group_key: str) -> Seed:
    return Seed(
        name=name,
        state=State.NOT_ASSESSABLE,
        reason="uncalibrated",
        received_at=NOW,
        group_key=group_key,
        model_sha256=model,
    )


def test_a_site_without_anything_of_its_own_is_well(settings: Settings, store: Store) -> None:
    outcomes = {about: check.outcome for about, check in examined(settings, store).items()}

    assert outcomes == {
        "calibration": Outcome.OK,
        "drift": Outcome.OK,
        "uncalibrated": Outcome.OK,
        "shadow": Outcome.UNUSED,
    }


def test_a_calibration_of_the_model_in_service_fits_and_one_of_another_is_told(
    settings: Settings, store: Store, model: str
) -> None:
    accept(store, MODEL)
    told = examined(settings, store)["calibration"]
    assert told.outcome is Outcome.WARNING
    assert "vigil models rollback" in told.remedy

    accept(store, model)

    assert examined(settings, store)["calibration"].outcome is Outcome.OK


def test_scanners_without_a_percentile_are_counted_and_each_kind_has_its_way_back(
    settings: Settings, store: Store, model: str
) -> None:
    accept(store, model)
    with store.transaction() as session:
        plant_watch(session, HERE, alarmed_at=NOW)
        in_force = calibrations.sha256_in_force(session, model)
        session.execute(update(GroupWatchRow).values(model_sha256=model, calibration_sha256=in_force))
        plant(
            session,
            uncalibrated("withdrawn", model, OLDER.key),  # of the same scanner
            uncalibrated("new", model, HERE.model_copy(update={"model_name": "PRISMA"}).key),
            uncalibrated("newer", model, OLDER.model_copy(update={"model_name": "PRISMA"}).key),
        )

    found = examined(settings, store)

    assert (found["drift"].outcome, found["uncalibrated"].outcome) == (Outcome.WARNING, Outcome.WARNING)
    assert "1 scanners changed" in found["drift"].told
    assert "vigil drift dismiss" in found["drift"].remedy
    assert found["uncalibrated"].told.startswith("2 studies of 1 scanners")
    assert "docs/commissioning.md" in found["uncalibrated"].remedy


def test_a_shadow_that_is_gone_or_changed_is_told_and_one_that_is_whole_passes(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    folder = write_artefact(tmp_path / "shadow")
    set_shadow(settings.data, load_artefact(folder), since=NOW)
    assert examined(settings, store)["shadow"].outcome is Outcome.OK

    shutil.rmtree(folder)
    gone = examined(settings, store)["shadow"]
    (settings.data / POINTER).write_text("{}")
    damaged = examined(settings, store)["shadow"]

    assert (gone.outcome, damaged.outcome) == (Outcome.WARNING, Outcome.WARNING)
    assert "vigil models shadow --none" in gone.remedy
    assert "damaged" in damaged.told
