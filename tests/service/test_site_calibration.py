"""A study through triage with the site's own calibration: what is stored, reported and audited."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select

from models.appearance import NAMES
from models.artefact import load_artefact
from models.documents import CalibrationDocument, SiteCalibration, Stratum
from models.groups import Group
from models.predictor import AnyPredictor, load_predictor
from service.calibrations import Calibrations
from service.store import Store, calibrations
from service.store.tables import AuditRow, ResultRow, ScoreRow
from service.store.worklist import worklist_row
from service.study import Band, Origin, State
from service.triage import Triage
from tests.fakes import FixedCalibration
from tests.picture_models import write_artefact
from tests.service.test_triage import Site

pytestmark = pytest.mark.postgres

SCANNER = Group(
    modality="MR",
    body_part="unstated",
    sequence="T1",
    manufacturer="PHANTOM",
    model_name="unstated",
    age_band="40-59",
    site="north",
)
Calibrate = Callable[..., SiteCalibration]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> AnyPredictor:
    artefact = load_artefact(write_artefact(tmp_path_factory.mktemp("artefact") / "grey"))
    return load_predictor(artefact, providers=("CPUExecutionProvider",))


@pytest.fixture
def site(store: Store, tmp_path: Path, pictures: AnyPredictor) -> Site:
    return Site(store, tmp_path, pictures)  # type: ignore[arg-type]


@pytest.fixture
def calibrate(pictures: AnyPredictor) -> Calibrate:
    def calibration(group: Group = SCANNER, model: str | None = None) -> SiteCalibration:
        document = CalibrationDocument(
            version=1,
            model_sha256=model or pictures.identity.sha256,
            made_on=date(2026, 3, 4),
            author="a physicist",
            reason="commissioning",
            least=5,
            strata=(Stratum(group=group, scores=(-3.0, -2.0, -1.0, 100.0, 200.0)),),
        )
        return SiteCalibration(document=document, site="north")

    return calibration


def against(site: Site, calibration: SiteCalibration) -> Triage:
    """The triage of a site where this calibration is in force."""
    return replace(site.triage, in_force=FixedCalibration(calibrated=calibration).in_force)


def test_a_percentile_names_the_site_s_document_and_group(site: Site, calibrate: Calibrate) -> None:
    calibration = calibrate()

    against(site, calibration).run(site.score_id)

    assert site.study().state is State.SCORED
    with site.store.transaction() as session:
        (score,) = session.scalars(select(ScoreRow)).all()
        assert (score.p_value, score.reference_n) == (3 / 6, 5)
        assert score.reference_group == SCANNER.label == "MR, T1, PHANTOM, 40-59 years, north"
        assert score.calibration_hash == calibration.document.sha256
        (row,) = session.scalars(select(AuditRow)).all()
        assert row.detail["calibration_hash"] == calibration.document.sha256
        (path,) = session.scalars(select(ResultRow.path).where(ResultRow.kind == "sr")).all()
    assert SCANNER.label.encode() in (site.folder / "results" / path).read_bytes()


@pytest.mark.parametrize(
    ("group", "model"),
    [(SCANNER.model_copy(update={"sequence": "T2"}), None), (SCANNER, "b" * 64)],
    ids=["another sequence", "another model"],
)
def test_a_study_without_a_reference_is_uncalibrated_and_has_no_percentile(
    site: Site, calibrate: Calibrate, group: Group, model: str | None
) -> None:
    against(site, calibrate(group, model)).run(site.score_id)

    study = site.study()
    assert (study.state, study.reason) == (State.NOT_ASSESSABLE, "uncalibrated")
    with site.store.transaction() as session:
        (score,) = session.scalars(select(ScoreRow)).all()
        assert (score.p_value, score.tail, score.reference_n, score.calibration_hash) == (
            None,
            None,
            None,
            "",
        )
        assert score.study_score is not None
        assert score.group_key == SCANNER.key
        assert set(score.looks) == set(NAMES)
        assert (score.provider, score.preprocessing) == ("CPUExecutionProvider", "picture-1")
        assert session.scalars(select(ResultRow.kind)).all() == ["sr"]
        row = worklist_row(session, study.key)
    assert row is not None
    assert (row.band, row.raw_score, row.percentile) == (Band.UNCALIBRATED, score.study_score, None)


def test_what_was_accepted_after_the_job_was_made_is_what_the_study_is_compared_with(
    site: Site, calibrate: Calibrate
) -> None:
    document, known = calibrate().document, Calibrations(site="north")
    assert document is not None
    with site.store.transaction() as session:
        row = calibrations.propose(session, document, origin=Origin.FOLDER, actor="ada")
        calibrations.accept(session, row.id, actor="ada")

    replace(site.triage, in_force=known.in_force).run(site.score_id)

    with site.store.transaction() as session:
        (score,) = session.scalars(select(ScoreRow)).all()
        assert (score.state, score.calibration_hash) == (State.SCORED, document.sha256)
        assert score.config_digest == known.config_digest(session, document.model_sha256)
