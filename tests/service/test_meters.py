import httpx
from prometheus_client import generate_latest

from service.meters import Meters
from service.roles import free_port


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


def test_changes_of_the_model_are_counted_by_how_they_went() -> None:
    meters = Meters()
    meters.changed(True)
    meters.changed(False)

    text = generate_latest(meters.registry).decode()
    assert 'vigil_model_changes_total{result="loaded"} 1.0' in text
    assert 'vigil_model_changes_total{result="refused"} 1.0' in text


def test_prometheus_is_answered() -> None:
    port = free_port("127.0.0.1")
    server = Meters().serve("127.0.0.1", port)
    try:
        assert "vigil_inference_samples_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        server.shutdown()
        server.server_close()
