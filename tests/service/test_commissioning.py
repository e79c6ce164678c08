"""A new scanner collects its reference, proposes it, and is calibrated when a person says so."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import select, text

from models.calibration import conformal_p_values
from models.documents import CalibrationDocument
from models.errors import NotAssessableError
from service.admission import Admission
from service.calibrations import Calibrations
from service.commissioning import BY_SCANNER, Commissioning, Rescored, rescore_calibrated
from service.store import Store, calibrations, feedback
from service.store.calibrations import Calibration, CalibrationStaleError
from service.store.feedback import Opinion
from service.store.tables import AuditRow, InstanceRow, StudyRow
from service.study import Origin, State, Verdict
from tests.reference_documents import ELSEWHERE, HERE, OLDER, document
from tests.seeds import MODEL_SHA256, Seed, plant

pytestmark = pytest.mark.postgres

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
N = 20


def new(number: int, **more: object) -> Seed:
    """A study of the new scanner; the younger and the older come in turn."""
    content = {
        "name": f"new {number}",
        "state": State.NOT_ASSESSABLE,
        "reason": "uncalibrated",
        "study_score": float(number),
        "group_key": (HERE, OLDER)[number % 2].key,
        "received_at": NOON + timedelta(minutes=number),
    }
    return Seed(**content | more)  # type: ignore[arg-type]


@pytest.fixture
def commissioning(store: Store) -> Commissioning:
    return Commissioning(store=store, model_hash=lambda: MODEL_SHA256, studies=N)


def planted(store: Store, *seeds: Seed) -> None:
    with store.transaction() as session:
        plant(session, *seeds)


def looked(commissioning: Commissioning) -> Calibration | None:
    return commissioning.propose(NOON + timedelta(days=1))


def document_of(store: Store, proposal: Calibration) -> CalibrationDocument:
    with store.transaction() as session:
        return calibrations.find(session, proposal.id)[1]


def accepted_elsewhere(store: Store) -> Calibration:
    """Another scanner is calibrated already."""
    made = document(
        {ELSEWHERE: 30},
        model_sha256=MODEL_SHA256,
        alike=("modality", "body_part", "sequence", "manufacturer"),
    )
    with store.transaction() as session:
        known = calibrations.propose(session, made, origin=Origin.FOLDER, actor="ada")
        return calibrations.accept(session, known.id, actor="ada")


def test_a_scanner_proposes_its_own_reference_when_enough_people_have_come(
    store: Store, commissioning: Commissioning
) -> None:
    before = accepted_elsewhere(store)
    planted(store, *(new(number) for number in range(N - 1)))
    assert looked(commissioning) is None
    planted(store, new(N - 1), new(N))

    proposal = looked(commissioning)

    assert proposal is not None
    assert (proposal.state, proposal.origin, proposal.scanner) == (
        "proposed",
        Origin.COMMISSIONING,
        HERE.scanner.key,
    )
    found = document_of(store, proposal)
    assert {stratum.group: stratum.scores for stratum in found.strata} == {
        ELSEWHERE: tuple(map(float, range(30))),  # stays as it is
        HERE: tuple(map(float, range(0, N, 2))),
        OLDER: tuple(map(float, range(1, N, 2))),
    }
    assert (found.replaces, found.version) == (before.sha256, before.version + 1)
    assert looked(commissioning) is None  # a person decides first
    with store.transaction() as session:
        last = session.scalars(select(AuditRow).order_by(AuditRow.number.desc())).first()
    assert last is not None
    assert (last.action, last.actor, last.detail["sha256"]) == (
        "calibration.proposed",
        "commissioning",
        proposal.sha256,
    )


def test_one_study_a_person_and_none_with_a_finding_is_in_it(
    store: Store, commissioning: Commissioning
) -> None:
    planted(store, *(new(number) for number in range(N + 2)))
    with store.transaction() as session:
        for number, verdict in ((3, Verdict.CONFIRMED_FINDING), (4, Verdict.FALSE_ALARM)):
            feedback.give(session, new(number).key, Opinion(verdict=verdict), actor="eve")
        persons = {new(5).key: "one person", new(8).key: "one person"}
        for row in session.scalars(select(InstanceRow)):
            row.patient = persons.get(session.get_one(StudyRow, row.study_id).key, "")

    proposal = looked(commissioning)

    assert proposal is not None
    found = document_of(store, proposal)
    scores = {score for stratum in found.strata for score in stratum.scores}
    assert scores == set(map(float, range(N + 2))) - {3.0, 8.0}
    assert found.alike == BY_SCANNER  # nothing else is calibrated by it
    assert "left out: 1 with a finding, 1 of a person who is in it" in found.reason


def test_a_refused_scanner_begins_anew_and_an_accepted_one_has_percentiles(
    store: Store, commissioning: Commissioning
) -> None:
    planted(store, *(new(number) for number in range(N)))
    first = looked(commissioning)
    assert first is not None
    with store.transaction() as session:
        calibrations.refuse(session, first.id, actor="ada", reason="the coil was broken")
    assert looked(commissioning) is None
    later = datetime.now(UTC)
    planted(store, *(new(100 + n, received_at=later + timedelta(minutes=n)) for n in range(N)))
    second = commissioning.propose(later + timedelta(days=1))
    assert second is not None
    assert min(document_of(store, second).strata[0].scores) == 100.0

    with store.transaction() as session:
        calibrations.accept(session, second.id, actor="ada")
        calibrated = Calibrations(site="north").in_force(session, MODEL_SHA256).calibrated
    reference = calibrated.reference(HERE, MODEL_SHA256)
    assert reference is not None
    assert (reference.n, reference.is_fallback, reference.is_small) == (N, True, True)  # two ages of ten
    with pytest.raises(NotAssessableError):
        calibrated.reference(ELSEWHERE, MODEL_SHA256)
    assert commissioning.propose(later + timedelta(days=1)) is None


def test_a_proposal_beside_what_is_in_force_no_more_cannot_take_it_away(
    store: Store, commissioning: Commissioning
) -> None:
    planted(store, *(new(number) for number in range(N)))
    stale = looked(commissioning)
    assert stale is not None
    accepted_elsewhere(store)

    with pytest.raises(CalibrationStaleError), store.transaction() as session:
        calibrations.accept(session, stale.id, actor="ada")

    again = looked(commissioning)
    assert again is not None
    assert ELSEWHERE in {stratum.group for stratum in document_of(store, again).strata}


def test_waiting_studies_are_scored_again_once_there_is_a_reference(
    store: Store, commissioning: Commissioning
) -> None:
    accepted_elsewhere(store)
    other = HERE.model_copy(update={"manufacturer": "HITACHI"})
    planted(store, *(new(number) for number in range(N)), new(50, group_key=other.key))
    known = Calibrations(site="north")
    admission = Admission(model_hash=lambda: MODEL_SHA256, config_digest=known.config_digest)

    def order() -> Rescored:
        with store.transaction() as session:
            return rescore_calibrated(session, known, admission, actor="ada")

    assert order() == Rescored(queued=0, left=N + 1)
    proposal = looked(commissioning)
    assert proposal is not None
    with store.transaction() as session:
        calibrations.accept(session, proposal.id, actor="ada")
    assert order() == Rescored(queued=N, left=1)
    assert order() == Rescored(queued=0, left=1)
    with store.transaction() as session:
        states = dict(session.execute(text("SELECT state, count(*) FROM vigil.study GROUP BY state")).all())
    assert states == {"queued": N, "not_assessable": 1}


@pytest.mark.parametrize(
    ("trimmed", "holds"), [(0.0, True), (0.1, False)], ids=["as collected", "highest tenth trimmed"]
)
def test_abnormal_studies_in_the_reference_never_raise_the_rate_of_false_flags_and_trimming_does(
    trimmed: float, *, holds: bool
) -> None:
    """A tenth of a thousand references is abnormal; normals of their own are flagged at alpha."""
    rng, alpha, n, groups, tested = np.random.default_rng(0), 0.05, 200, 1000, 50
    flagged = 0
    for _ in range(groups):
        is_abnormal = rng.random(n) < 0.1
        reference = np.sort(rng.normal(size=n) + 2.0 * is_abnormal)
        kept = reference[: round(n * (1 - trimmed))]
        flagged += int((conformal_p_values(kept, rng.normal(size=tested)) <= alpha).sum())
    rate = flagged / (groups * tested)
    error = np.sqrt(alpha * (1 - alpha) / (groups * tested))
    assert bool(rate <= alpha + 3 * error) is holds
