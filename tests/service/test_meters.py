from pathlib import Path

import httpx
import pytest
from prometheus_client import generate_latest

from dicom_node.errors import PortInUseError
from dicom_node.quarantine import Quarantined
from service.meters import DeliveryMeters, Meters, NodeMeters
from service.settings import Settings
from service.study import OVERDUE, Priority
from tests.end_to_end.peers import free_port


def sample(meters: Meters, name: str) -> float:
    value = meters.registry.get_sample_value(name)
    assert value is not None
    return value


def test_batches_and_what_filled_them_are_counted() -> None:
    meters = Meters()
    meters.ran(7, 8, 0.1)
    meters.ran(16, 16, 0.3)

    assert sample(meters, "vigil_inference_samples_total") == 23
    assert sample(meters, "vigil_inference_filled_total") == 1
    assert sample(meters, "vigil_inference_batch_seconds_count") == 2


def test_memory_that_was_short_stays_visible() -> None:
    meters = Meters()
    assert sample(meters, "vigil_inference_batch_limit") == 0
    meters.halved(8)
    meters.halved(4)

    assert sample(meters, "vigil_inference_out_of_memory_total") == 2
    assert sample(meters, "vigil_inference_batch_limit") == 4


def test_what_an_alert_waits_for_is_told_before_it_happens_first(tmp_path: Path) -> None:
    """`increase` and `delta` see nothing in a series that is born with its first event."""
    worker, node = Meters(), NodeMeters(Settings(data=tmp_path))

    for result in ("loaded", "refused"):
        assert worker.registry.get_sample_value("vigil_model_changes_total", {"result": result}) == 0
    for reason in Quarantined:
        assert node.registry.get_sample_value("vigil_quarantine_files", {"reason": reason}) == 0


def test_changes_of_the_model_are_counted_by_how_they_went() -> None:
    meters = Meters()
    meters.changed(True)
    meters.changed(False)

    text = generate_latest(meters.registry).decode()
    assert 'vigil_model_changes_total{result="loaded"} 1.0' in text
    assert 'vigil_model_changes_total{result="refused"} 1.0' in text


def test_the_stages_of_a_study_and_the_whole_are_timed() -> None:
    meters = Meters()
    meters.claimed(Priority.STAT, 0.5)
    meters.claimed(OVERDUE, 7000.0)
    meters.ended("scored", {"read": 1.0, "score": 3.0})

    value = meters.registry.get_sample_value
    assert value("vigil_queue_wait_seconds_sum", {"priority": "stat"}) == 0.5
    assert value("vigil_queue_wait_seconds_sum", {"priority": "urgent"}) == 7000.0
    assert value("vigil_stage_seconds_sum", {"stage": "score"}) == 3.0
    assert value("vigil_job_seconds_sum", {"state": "scored"}) == 4.0


def test_attempts_on_a_destination_are_counted_by_how_they_went() -> None:
    meters = DeliveryMeters()
    meters.delivered("archive", 0.2)
    meters.failed("archive", is_over=False)
    meters.failed("archive", is_over=True)

    counted = {
        outcome: meters.registry.get_sample_value(
            "vigil_delivery_attempts_total", {"destination": "archive", "outcome": outcome}
        )
        for outcome in ("delivered", "again", "given_up")
    }
    assert counted == {"delivered": 1, "again": 1, "given_up": 1}


def test_the_node_tells_what_it_received_and_what_room_there_is(tmp_path: Path) -> None:
    meters = NodeMeters(Settings(data=tmp_path, spool_quota_mb=3))
    meters.tallies.of(5).add("stored")
    meters.registered(2, 1000)
    meters.completed("quiet_period")

    value = meters.registry.get_sample_value
    assert value("vigil_instances_total", {"outcome": "stored"}) == 1
    assert value("vigil_associations_total", {"outcome": "aborted"}) == 0
    assert value("vigil_registered_bytes_total") == 1000
    assert value("vigil_completed_studies_total", {"trigger": "quiet_period"}) == 1
    assert value("vigil_spool_quota_bytes") == 3 * 1024**2


def test_a_role_without_a_port_answers_nobody() -> None:
    assert DeliveryMeters().serve(Settings(), None) is None


def test_prometheus_is_answered() -> None:
    port = free_port()
    server = Meters().serve(Settings(), port)
    assert server is not None
    try:
        with pytest.raises(PortInUseError, match="a port of its own"):
            DeliveryMeters().serve(Settings(), port)
        scraped = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        assert "vigil_inference_samples_total" in scraped
        assert "_created" not in scraped
    finally:
        server.shutdown()
        server.server_close()
