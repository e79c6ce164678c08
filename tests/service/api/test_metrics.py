from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.spool import Spool
from service import __version__, engine, orders
from service.api import create_app
from service.engine import Pool
from service.settings import Settings
from service.store import Store
from service.study import DeliveryStatus, State
from tests.ordered import ordered
from tests.seeds import MODEL, MODEL_SHA256, Seed, plant
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
    assert found["vigil_audit_number", ()] == 3 + 2 + 3
    assert found["vigil_database_up", ()] == 1
    assert found["vigil_workers", ()] == 0


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
    for identity in (seed.key, "DOE", "1.2.840", "SCANNER", "archive"):
        assert identity not in text


def test_a_scrape_without_a_database_says_so_and_keeps_the_rest(stranded: TestClient) -> None:
    found = scraped(stranded)
    assert found["vigil_database_up", ()] == 0
    assert found["vigil_spool_free_bytes", ()] > 0
    assert not [name for name, _ in found if name == "vigil_studies"]


def test_the_build_names_the_model_in_service(stranded: TestClient, settings: Settings) -> None:
    assert not settings.spool_folder.exists()
    builds = [labels for name, labels in scraped(stranded) if name == "vigil_build_info"]
    assert set(builds[0]) == {__version__, MODEL.name, MODEL.version, MODEL_SHA256}


def test_files_in_quarantine_are_counted_by_reason(stranded: TestClient, settings: Settings) -> None:
    spool = Spool(settings.spool_folder, b"s" * 32, free_mark_bytes=1)
    for content, reason in ((b"a", "uid_conflict"), (b"b", "uid_conflict"), (b"c", "unreadable")):
        spool.quarantine([content], reason)

    found = scraped(stranded)

    assert found["vigil_quarantine_files", ("uid_conflict",)] == 2
    assert found["vigil_quarantine_files", ("unreadable",)] == 1


@pytest.mark.postgres
def test_the_model_named_is_that_of_now(store: Store, settings: Settings) -> None:
    serving = [MODEL]
    app = create_app(store=store, settings=settings, model=MODEL, follow=lambda: serving[-1])
    client = TestClient(app, base_url="http://127.0.0.1:8080")
    assert MODEL_SHA256 in client.get("/metrics").text

    serving.append(replace(MODEL, sha256="f" * 64))

    assert "f" * 64 in client.get("/metrics").text
