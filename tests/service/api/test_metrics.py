from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.quota import Quota
from dicom_node.spool import Spool
from models.groups import Group
from service import __version__, engine, orders
from service.api import create_app
from service.engine import Pool
from service.settings import Settings
from service.store import Store, keeping
from service.study import DeliveryStatus, State
from tests.ordered import ordered
from tests.seeds import MODEL, MODEL_SHA256, MORNING, Seed, plant, plant_watch, study_key
from tests.web_client import TestClient


def scraped(client: TestClient) -> dict[tuple[str, tuple[str, ...]], float]:
    """Samples by name and label values."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.mark.postgres
def test_everything_that_waits_or_ended_is_counted(client: TestClient, store: Store) -> None:
    results = {"sr": {"archive": DeliveryStatus.DELIVERED, "viewer": DeliveryStatus.UNDELIVERED}}
    with store.transaction() as session:
        plant(session, Seed(name="a", results=results), Seed(name="b", state=State.QUEUED), Seed(name="c"))
        engine.enqueue(session, Pool.INFER, 1, priority=10)
    found = scraped(client)
    assert found["vigil_studies", ("scored",)] == 2
    assert found["vigil_studies", ("queued",)] == 1
    assert found["vigil_studies", ("failed",)] == 0
    assert found["vigil_calibration_groups", ()] == 0
    assert found["vigil_scores", ("queued",)] == 1
    assert found["vigil_deliveries", ("delivered",)] == 1
    assert found["vigil_deliveries", ("undelivered",)] == 1
    assert found["vigil_jobs", ("infer", "waiting")] == 1
    assert found["vigil_jobs", ("deliver", "waiting")] == 0
    assert found["vigil_oldest_job_seconds", ("infer",)] >= 0
    assert found["vigil_queue_jobs", ("infer", "routine")] == 1
    assert found["vigil_queue_jobs", ("infer", "stat")] == 0
    assert found["vigil_queue_oldest_seconds", ("infer", "routine")] >= 0
    assert found["vigil_outstanding_deliveries", ("viewer", "undelivered")] == 1
    assert found["vigil_outstanding_delivery_seconds", ("viewer", "undelivered")] > 0
    assert not [
        labels for name, labels in found if name.startswith("vigil_outstanding") and "archive" in labels
    ]
    assert found["vigil_audit_number", ()] == 3 + 2 + 3
    assert found["vigil_database_up", ()] == 1
    assert {pool: found["vigil_workers", (pool,)] for pool in (*Pool, "unknown")} == dict.fromkeys(
        (*Pool, "unknown"), 0
    )


@pytest.mark.postgres
def test_what_a_person_waived_alarms_nobody_any_more(client: TestClient, store: Store) -> None:
    """Deleted by its age later, the study cannot be replayed, and nothing would ever end the alarm."""
    given_up = {"sr": {"viewer": DeliveryStatus.UNDELIVERED}}
    with store.transaction() as session:
        plant(session, Seed(name="a", results=given_up), Seed(name="b", results=given_up))
    assert scraped(client)["vigil_outstanding_deliveries", ("viewer", "undelivered")] == 2

    with store.transaction() as session:
        keeping.waive(session, study_key("a"), "the viewer is gone")

    found = scraped(client)
    assert found["vigil_outstanding_deliveries", ("viewer", "undelivered")] == 1
    assert found["vigil_deliveries", ("undelivered",)] == 2


@pytest.mark.postgres
def test_what_is_not_assessable_is_counted_by_reason(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(
            session,
            *(Seed(name=name, state=State.NOT_ASSESSABLE, reason="burned_in") for name in "ab"),
            Seed(name="c", state=State.NOT_ASSESSABLE, reason="localiser"),
        )

    found = scraped(client)

    assert found["vigil_not_assessable", ("burned_in",)] == 2
    assert found["vigil_not_assessable", ("localiser",)] == 1
    assert found["vigil_not_assessable", ("clipped",)] == 0


@pytest.mark.postgres
def test_a_scanner_that_has_changed_is_told_in_words(client: TestClient, store: Store) -> None:
    changed, usual = (Group(modality="MR", manufacturer=maker) for maker in ("ONE", "TWO"))
    with store.transaction() as session:
        plant_watch(session, changed, alarmed_at=MORNING)
        plant_watch(session, usual)

    found = scraped(client)

    assert found["vigil_drift_alarm", (changed.label,)] == 1
    assert found["vigil_drift_evidence", (changed.label,)] >= 1
    assert found["vigil_drift_alarm", (usual.label,)] == 0
    assert found["vigil_drift_evidence", (usual.label,)] < 1


@pytest.mark.postgres
def test_what_a_person_put_aside_is_counted(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"), Seed(name="b"))
    ordered(store, orders.park, Seed(name="a").key)
    ordered(store, orders.park_destination, "archive")

    found = scraped(client)

    assert (found["vigil_parked_studies", ()], found["vigil_parked_destinations", ()]) == (1, 1)


@pytest.mark.postgres
def test_no_label_holds_anything_of_a_study(client: TestClient, store: Store) -> None:
    seed = Seed(name="a", description="DOE^JANE", results={"sr": {"archive": DeliveryStatus.WAITING}})
    with store.transaction() as session:
        plant(session, seed)
    text = client.get("/metrics").text
    assert 'destination="archive"' in text  # a name of the peers file
    for identity in (seed.key, "DOE", "1.2.840", "SCANNER"):
        assert identity not in text


@pytest.fixture
def spool(settings: Settings) -> Spool:
    """The spool of a node that shares the API's folder, and looks after it."""
    made = Spool(settings.spool_folder, b"s" * 32, free_mark_bytes=1)
    settings.spool_folder.mkdir(parents=True, exist_ok=True)
    Quota(settings.spool_folder, limit_bytes=None).measure()
    return made


def test_a_scrape_without_a_database_says_so_and_keeps_the_rest(stranded: TestClient, spool: Spool) -> None:
    del spool
    found = scraped(stranded)
    assert found["vigil_database_up", ()] == 0
    assert found["vigil_spool_free_bytes", ()] > 0
    assert not [name for name, _ in found if name == "vigil_studies"]


def test_the_build_names_the_model_in_service(stranded: TestClient, settings: Settings) -> None:
    assert not settings.spool_folder.exists()
    builds = [labels for name, labels in scraped(stranded) if name == "vigil_build_info"]
    assert set(builds[0]) == {
        __version__,
        MODEL.name,
        MODEL.version,
        MODEL_SHA256,
        MODEL.calibration_sha256,
    }


def test_an_api_that_shares_no_folder_with_a_node_tells_nothing_of_a_spool(stranded: TestClient) -> None:
    """As where studies go to the workers by a bucket: its own disk says nothing of the node's."""
    assert not [name for name, _ in scraped(stranded) if name.startswith(("vigil_spool", "vigil_quarantine"))]


def test_files_in_quarantine_are_counted_by_reason(stranded: TestClient, spool: Spool) -> None:
    for content, reason in ((b"a", "uid_conflict"), (b"b", "uid_conflict"), (b"c", "unreadable")):
        spool.quarantine([content], reason)

    found = scraped(stranded)

    assert found["vigil_quarantine_files", ("uid_conflict",)] == 2
    assert found["vigil_quarantine_files", ("unreadable",)] == 1


@pytest.mark.usefixtures("spool")
def test_what_waits_in_the_log_and_what_was_put_by_there_is_told(
    stranded: TestClient, settings: Settings
) -> None:
    settings.log_folder.mkdir(parents=True)
    for state in ("sealed", "damaged.sealed"):
        (settings.log_folder / f"{state}.1.4096.{'0' * 32}").write_bytes(b"")

    found = scraped(stranded)

    assert found["vigil_log_damaged_segments", ()] == 1
    assert 0 < found["vigil_log_oldest_seconds", ()] < 60


@pytest.mark.postgres
def test_the_model_named_is_that_of_now(store: Store, settings: Settings) -> None:
    serving = [MODEL]
    app = create_app(store=store, settings=settings, model=MODEL, follow=lambda: serving[-1])
    client = TestClient(app, base_url="http://127.0.0.1:8080")
    assert MODEL_SHA256 in client.get("/metrics").text

    serving.append(replace(MODEL, sha256="f" * 64))

    assert "f" * 64 in client.get("/metrics").text
