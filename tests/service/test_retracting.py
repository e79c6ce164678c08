"""What an archive is told where a later score of a study has nothing to show."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
from sqlalchemy import select, text
from structlog.testing import capture_logs

from dicom_node.delivery import open_destination
from dicom_node.errors import SpoolFullError
from dicom_node.results import codes
from dicom_node.services.commitment import Mailbox
from models.catalogue import active_artefact
from models.errors import Reason
from models.predictor import Predictor
from service import orders
from service.deliver import Delivery
from service.errors import StorageAwayError
from service.reaper import Reaper
from service.replay import replay
from service.store import Store, audit, deliveries, jobs, retractions, revival
from service.store.jobs import Outcome
from service.store.objects import ResultFolder
from service.store.tables import AuditRow, DeliveryRow, ResultRow, ScoreRow
from service.study import DeliveryStatus, RetractionState, State
from service.triage import Triage
from tests.dicom_node.delivery.test_dimse import peer_at
from tests.fakes import FakeDestination, FixedCalibration, FixedModel, archive
from tests.ordered import ordered
from tests.service.test_studies import NOON
from tests.service.test_triage import BrokenPredictor, Site

pytestmark = pytest.mark.postgres

WAITING = DeliveryStatus.WAITING
LATER = "e" * 64  # another configuration: a calibration was taken back


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(active_artefact())


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
def site(store: Store, tmp_path: Path, predictor: Predictor) -> Site:
    """A study with a report, and a picture beside it, as a score leaves one."""
    site = Site(store, tmp_path, predictor)
    site.triage.run(site.score_id)
    with store.transaction() as session:
        picture = ResultRow(
            score_id=site.score_id,
            kind="sc",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.7.4",
            sop_instance_uid="2.25.88",
            path=f"{site.key}/88.dcm",
            sha256="0" * 64,
            bytes=1,
        )
        session.add(picture)
    return site


def again(site: Site) -> Triage:
    """Queue the same revision for another configuration; return the triage that has it in force."""
    with site.store.transaction() as session:
        opened = revival.reopen(session, site.key, model_hash="newer", config_digest=LATER)
        assert opened is not None
        score_id = jobs.queue(
            session,
            opened.revision.id,
            model_hash=site.predictor.identity.sha256,
            config_digest=LATER,
            run_at=NOON,
        )
        assert score_id is not None
    site.score_id = score_id
    return replace(site.triage, in_force=FixedCalibration(digest=LATER).in_force)


def results(site: Site) -> dict[str, Dataset]:
    """Objects of the newest score, as they were kept."""
    with site.store.transaction() as session:
        rows = session.scalars(select(ResultRow).where(ResultRow.score_id == site.score_id))
        return {row.kind: dcmread(site.folder / "results" / row.path) for row in rows}


def test_a_score_that_ends_without_pictures_says_so_where_there_are_older_ones(site: Site) -> None:
    report = _report(site)

    again(site).run(site.score_id)

    made = results(site)
    assert set(made) == {"sc", "sr"}
    assert codes.ALL_SUPERSEDED in made["sc"].DerivationDescription
    assert made["sc"].StudyInstanceUID == made["sr"].StudyInstanceUID == report.StudyInstanceUID
    (study,) = made["sr"].PredecessorDocumentsSequence
    (named,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == report.SOPInstanceUID
    with site.store.transaction() as session:
        sent = session.scalars(
            select(ResultRow.kind)
            .join(DeliveryRow)
            .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
            .where(ScoreRow.id == site.score_id)
        ).all()
    assert sorted(sent) == ["sc", "sr"]


def fail(site: Site) -> Triage:
    """Let every attempt on the study as it is queued again fail; return the triage."""
    later = again(site)
    broken = replace(later, models=FixedModel(BrokenPredictor(site.predictor)))  # type: ignore[arg-type]
    for _ in range(later.attempts):
        site.attempt(broken)
    assert site.study().state is State.FAILED
    return later


def score(site: Site) -> ScoreRow:
    with site.store.transaction() as session:
        return session.get_one(ScoreRow, site.score_id)


def infer_jobs(site: Site) -> list[int]:
    query = text("SELECT (args->>'row_id')::int FROM procrastinate_jobs WHERE queue_name = 'infer'")
    with site.store.transaction() as session:
        return list(session.scalars(query))


def actions(site: Site) -> list[str]:
    with site.store.transaction() as session:
        audit.verify(session)
        return list(session.scalars(select(AuditRow.action).order_by(AuditRow.number)))


def test_a_study_that_failed_takes_its_earlier_results_back(site: Site) -> None:
    before = _report(site)
    later = fail(site)
    assert infer_jobs(site)[-1] == site.score_id  # queued as the study ended

    for _ in range(2):  # a second job, or worker, changes nothing
        later.run(site.score_id)

    made = results(site)
    assert set(made) == {"sc_retraction", "sr_retraction"}
    (named,) = (
        made["sr_retraction"]
        .PredecessorDocumentsSequence[0]
        .ReferencedSeriesSequence[0]
        .ReferencedSOPSequence
    )
    assert named.ReferencedSOPInstanceUID == before.SOPInstanceUID
    for one in made.values():
        assert (one.StudyInstanceUID, one.PatientID) == (before.StudyInstanceUID, before.PatientID)
    assert "Every attempt to score it failed." in made["sc_retraction"].DerivationDescription
    with site.store.transaction() as session:
        sent = session.scalars(
            select(DeliveryRow.id).join(ResultRow).where(ResultRow.score_id == site.score_id)
        ).all()
        assert len(sent) == 2
        assert all(deliveries.begin(session, delivery_id).status is WAITING for delivery_id in sent)  # type: ignore[union-attr]
    assert actions(site)[-2:] == ["study.failed", "result.retracted"]
    assert (site.study().state, score(site).retraction) == (State.FAILED, RetractionState.MADE)


def test_a_kill_before_the_rows_are_stored_leaves_the_same_objects(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = fail(site)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(retractions, "record", _killed)
        later.run(site.score_id)
    files = sorted(path.name for path in (site.folder / "results").rglob("*.dcm"))

    later.run(site.score_id)

    assert sorted(path.name for path in (site.folder / "results").rglob("*.dcm")) == files
    assert score(site).retraction is RetractionState.MADE


def test_an_archive_is_sent_what_it_takes_of_it(site: Site, tmp_path: Path) -> None:
    """By C-STORE, in the class of the pictures it had; a destination of reports alone gets the report."""
    wanted = {"sr": ("pacs", "reports"), "sc": ("pacs",)}
    later = replace(fail(site), destinations=lambda kind: wanted[kind])
    later.run(site.score_id)
    classes = (Comprehensive3DSRStorage, MultiFrameTrueColorSecondaryCaptureImageStorage)
    with archive(tmp_path, contexts=[(uid, (ExplicitVRLittleEndian,)) for uid in classes]) as there:
        pacs = open_destination(peer_at(there.port), calling_aet="VIGIL")
        delivery = Delivery(
            store=site.store,
            objects=ResultFolder(site.folder / "results"),
            destinations={"pacs": pacs, "reports": FakeDestination()},
            attempts=3,
            mailbox=Mailbox(tmp_path),
        )
        with site.store.transaction() as session:
            rows = session.execute(
                select(DeliveryRow.id, DeliveryRow.destination, ResultRow.kind)
                .join(ResultRow)
                .where(ResultRow.score_id == site.score_id)
            ).all()
        for delivery_id, *_ in rows:
            delivery.run(delivery_id)

    received = [
        dcmread(io.BytesIO(content), force=True).SOPClassUID if syntax == ExplicitVRLittleEndian else None
        for syntax, content in there.received
    ]
    assert sorted(received) == sorted(classes)
    assert sorted((destination, kind) for _, destination, kind in rows) == [
        ("pacs", "sc_retraction"),
        ("pacs", "sr_retraction"),
        ("reports", "sr_retraction"),
    ]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_study_that_failed_without_an_earlier_result_says_nothing(
    store: Store, tmp_path: Path, predictor: Predictor
) -> None:
    site = Site(store, tmp_path, predictor)
    broken = site.with_model(BrokenPredictor(predictor))  # type: ignore[arg-type] - a stand-in
    for _ in range(broken.attempts):
        site.attempt(broken)

    site.triage.run(site.score_id)

    assert (site.study().state, score(site).retraction, results(site)) == (State.FAILED, None, {})


def test_a_study_that_a_person_cancelled_takes_its_earlier_results_back(site: Site) -> None:
    later = again(site)
    ordered(site.store, orders.cancel, site.key)
    assert infer_jobs(site)[-1] == site.score_id

    later.run(site.score_id)

    assert "A person cancelled it." in results(site)["sc_retraction"].DerivationDescription


def test_what_has_not_one_readable_header_takes_them_back_with_its_own_code(site: Site) -> None:
    later = again(site)
    with site.store.transaction() as session:
        job = jobs.begin(session, site.score_id)
        assert job is not None
        outcome = Outcome(state=State.NOT_ASSESSABLE, reason=Reason.UNREADABLE.value)
        jobs.record(session, job, outcome, lambda _: ["pacs"])

    later.run(site.score_id)

    assert codes.REASONS[Reason.UNREADABLE].value in results(site)["sc_retraction"].DerivationDescription


def test_what_nothing_is_left_to_say_it_with_is_loud(site: Site) -> None:
    later = fail(site)
    for path in (site.folder / "results").rglob("*.dcm"):
        path.write_bytes(b"damaged")

    with capture_logs() as logged:
        later.run(site.score_id)

    assert actions(site)[-1] == "result.retraction_failed"
    assert (site.study().state, score(site).retraction) == (State.FAILED, RetractionState.FAILED)
    assert [one["study"] for one in logged if one["log_level"] == "error"] == [site.key]


def test_a_store_that_is_away_is_waited_for_and_a_defect_is_not(site: Site) -> None:
    later = fail(site)
    with site.store.transaction() as session:
        session.execute(text("DELETE FROM procrastinate_jobs"))

    later.failed(site.score_id, StorageAwayError("away"))
    assert Reaper(store=site.store, stalled_s=30).step() > 0
    assert site.score_id in infer_jobs(site)

    later.failed(site.score_id, RuntimeError("a defect"))
    assert score(site).retraction is RetractionState.FAILED


def test_a_replay_names_what_was_taken_back_and_its_word_is_sent_no_more(site: Site) -> None:
    later = fail(site)
    later.run(site.score_id)
    taken_back = results(site)["sr_retraction"]
    ordered(site.store, replay, site.key)

    later.run(site.score_id)

    made = results(site)
    assert set(made) == {"sc", "sr", "sc_retraction", "sr_retraction"}
    (named,) = made["sr"].PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == taken_back.SOPInstanceUID
    assert (made["sr"].ContentDate, made["sr"].ContentTime) > (taken_back.ContentDate, taken_back.ContentTime)
    with site.store.transaction() as session:
        rows = session.execute(
            select(ResultRow.kind, DeliveryRow.id)
            .join(DeliveryRow)
            .where(ResultRow.score_id == site.score_id)
        ).all()
        begun = {kind: deliveries.begin(session, delivery_id) for kind, delivery_id in rows}
    assert {kind: job.status for kind, job in begun.items() if job} == {
        "sc": WAITING,
        "sr": WAITING,
        "sc_retraction": DeliveryStatus.WITHDRAWN,
        "sr_retraction": DeliveryStatus.WITHDRAWN,
    }


def test_a_study_that_is_scored_again_before_anything_was_taken_back_has_nothing_to_take_back(
    site: Site,
) -> None:
    later = fail(site)
    ordered(site.store, replay, site.key)
    with site.store.transaction() as session:
        assert retractions.find(session, site.score_id) is None
        assert retractions.record(session, site.score_id, (), lambda _: ()) is None

    later.run(site.score_id)

    assert set(results(site)) == {"sc", "sr"}


def test_a_full_disk_is_waited_for(site: Site) -> None:
    later = fail(site)

    later.failed(site.score_id, SpoolFullError("full"))

    assert score(site).retraction is RetractionState.WANTED


def test_what_was_taken_back_and_counts_again_keeps_its_rows_and_sends_no_retraction(site: Site) -> None:
    """A calibration that was put in force and taken back, with a failure between."""
    first = site.score_id
    fail(site).run(site.score_id)
    ordered(site.store, replay, site.key)

    site.triage.run(site.score_id)  # as before

    study = site.study()
    assert (study.state, study.score_id) == (score_state(site, first), first)
    with site.store.transaction() as session:
        rows = session.execute(
            select(ResultRow.kind, DeliveryRow.id).join(DeliveryRow).where(ResultRow.score_id == first)
        ).all()
        begun = {kind: deliveries.begin(session, delivery_id) for kind, delivery_id in rows}
    assert {kind: job.status for kind, job in begun.items() if job} == {
        "sr": WAITING,
        "sc_retraction": DeliveryStatus.WITHDRAWN,
        "sr_retraction": DeliveryStatus.WITHDRAWN,
    }


def score_state(site: Site, score_id: int) -> State:
    with site.store.transaction() as session:
        return session.get_one(ScoreRow, score_id).state


def _report(site: Site) -> Dataset:
    with site.store.transaction() as session:
        path = session.scalars(select(ResultRow.path).where(ResultRow.kind == "sr")).one()
    return dcmread(site.folder / "results" / path)
