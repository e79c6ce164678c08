"""What is decided about a calibration, what is in force then, and what of it is on record."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from models.documents import CalibrationDocument, read_document, write_document
from service.calibrations import Calibrations, InForce
from service.store import Store, calibrations
from service.store.calibrations import (
    Calibration,
    CalibrationDecidedError,
    CalibrationKnownError,
    UnknownCalibrationError,
)
from service.store.tables import AuditRow
from service.study import CalibrationState, Origin
from tests.reference_documents import HERE, MODEL, document

pytestmark = pytest.mark.postgres

OTHER_MODEL = "b2" * 32
Propose = Callable[..., Calibration]


@pytest.fixture
def propose(store: Store) -> Propose:
    def proposed(version: int, model: str = MODEL) -> Calibration:
        made = document({HERE: 30}).model_copy(update={"version": version, "model_sha256": model})
        with store.transaction() as session:
            return calibrations.propose(session, made, origin=Origin.FILE, actor="ada")

    return proposed


def decide(store: Store, how: Callable[..., object], of: Calibration) -> None:
    with store.transaction() as session:
        how(session, of.id, actor="ada", reason="checked")


def in_force(store: Store, model: str = MODEL, site: str = "north") -> InForce:
    with store.transaction() as session:
        return Calibrations(site=site, configuration={"vigil": "1"}).in_force(session, model)


def states(store: Store) -> list[CalibrationState]:
    with store.transaction() as session:
        return [one.state for one in reversed(calibrations.listed(session))]


def test_a_proposal_is_in_force_when_a_person_accepts_it_and_not_before(
    store: Store, propose: Propose
) -> None:
    first = propose(1)
    nothing = in_force(store)
    assert nothing.calibrated.document is None

    decide(store, calibrations.accept, first)

    now = in_force(store)
    assert now.calibrated.document is not None
    assert now.calibrated.document.sha256 == first.sha256
    assert now.calibrated.site == "north"
    assert len({nothing.config_digest, now.config_digest, in_force(store, site="south").config_digest}) == 3
    with store.transaction() as session:
        assert calibrations.accepted(session, MODEL) == now.calibrated.document
        assert calibrations.next_version(session) == 2


def test_retiring_brings_back_the_one_before_and_at_last_the_model_s_own(
    store: Store, propose: Propose
) -> None:
    before = in_force(store).config_digest
    first, second = propose(1), propose(2)
    decide(store, calibrations.accept, first)
    with_first = in_force(store).config_digest
    decide(store, calibrations.accept, second)
    assert states(store) == [CalibrationState.RETIRED, CalibrationState.ACCEPTED]

    decide(store, calibrations.retire, second)
    assert states(store) == [CalibrationState.ACCEPTED, CalibrationState.RETIRED]
    assert in_force(store).config_digest == with_first

    decide(store, calibrations.retire, first)
    assert in_force(store).config_digest == before


def test_a_model_without_a_document_never_borrows_that_of_another(store: Store, propose: Propose) -> None:
    decide(store, calibrations.accept, propose(1))

    found = in_force(store, OTHER_MODEL).calibrated.document

    assert found is not None
    assert found.model_sha256 == MODEL  # whose references refuse every study of the other model
    with store.transaction() as session:
        assert calibrations.accepted(session, OTHER_MODEL) is None
    decide(store, calibrations.accept, propose(2, OTHER_MODEL))
    assert states(store) == [CalibrationState.ACCEPTED] * 2  # one of each model


def test_what_cannot_be_decided_is_refused_and_changes_nothing(store: Store, propose: Propose) -> None:
    first, second = propose(1), propose(2)
    decide(store, calibrations.accept, first)
    decide(store, calibrations.refuse, second)
    for how, of in (
        (calibrations.accept, first),
        (calibrations.refuse, first),
        (calibrations.refuse, second),
        (calibrations.retire, second),
    ):
        with pytest.raises(CalibrationDecidedError):
            decide(store, how, of)
    with pytest.raises(CalibrationKnownError):
        propose(1)
    with pytest.raises(UnknownCalibrationError), store.transaction() as session:
        calibrations.accept(session, first.id + 100, actor="ada")
    assert states(store) == [CalibrationState.ACCEPTED, CalibrationState.REFUSED]


def test_every_decision_is_on_record_with_who_why_and_what_was_before(store: Store, propose: Propose) -> None:
    first, second = propose(1), propose(2)
    for how, of in (
        (calibrations.accept, first),
        (calibrations.accept, second),
        (calibrations.retire, second),
    ):
        decide(store, how, of)
    with store.transaction() as session:
        events = [
            (row.action, row.actor, row.detail["sha256"], row.detail.get("before"), row.detail.get("now"))
            for row in session.scalars(select(AuditRow).order_by(AuditRow.number))
        ]
        whys = {row.detail.get("why") for row in session.scalars(select(AuditRow))}
    assert events == [
        ("calibration.proposed", "ada", first.sha256, None, None),
        ("calibration.proposed", "ada", second.sha256, None, None),
        ("calibration.accepted", "ada", first.sha256, None, None),
        ("calibration.accepted", "ada", second.sha256, first.sha256, None),
        ("calibration.retired", "ada", second.sha256, None, first.sha256),
    ]
    assert whys == {None, "checked"}


def test_a_document_comes_out_of_the_database_as_it_went_in(store: Store, tmp_path: Path) -> None:
    """Its hash is over its numbers; a database that rounded one, or lost a sign, would make it another."""
    odd = [-1e300, -5e-324, -0.0, 0.1, 1 / 3, 1.0, 1e22, 1.7976931348623157e308]
    content = document({HERE: 30}).model_dump(mode="json")
    content["strata"][0] |= {"scores": odd, "maxima": [], "looks": {}}
    made = CalibrationDocument.model_validate_json(json.dumps(content))
    with store.transaction() as session:
        kept = calibrations.propose(session, made, origin=Origin.FILE, actor="ada")
    with store.transaction() as session:
        _, found = calibrations.find(session, kept.id)
    assert found.sha256 == made.sha256 == kept.sha256
    write_document(tmp_path / "a.json", found)
    assert read_document(tmp_path / "a.json") == made
