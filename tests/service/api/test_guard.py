import pytest
from starlette.websockets import WebSocketDisconnect

from service.api import create_app
from service.settings import Settings
from service.store import Store
from tests.web_client import TestClient


def client(settings: Settings, base_url: str) -> TestClient:
    store = Store.open("postgresql://nobody@127.0.0.1:1/nothing")
    return TestClient(create_app(store=store, settings=settings), base_url=base_url)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.0.1"])
def test_loopback_names_are_answered(settings: Settings, host: str) -> None:
    assert client(settings, "http://127.0.0.1").get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", ""]
)
def test_a_strangers_name_for_this_machine_is_refused(settings: Settings, host: str) -> None:
    answer = client(settings, "http://127.0.0.1").get("/healthz", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_api_that_listens_for_others_answers_under_any_name(settings: Settings) -> None:
    opened = settings.model_copy(update={"api_host": "0.0.0.0"})
    assert client(opened, "http://vigil.hospital.example").get("/healthz").status_code == 200


@pytest.mark.parametrize("url", ["/", "/healthz", "/nowhere", "/static/vigil.css", "/api/v1/worklist"])
def test_every_answer_carries_the_security_headers(settings: Settings, url: str) -> None:
    headers = client(settings, "http://127.0.0.1").get(url).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "camera=()" in headers["permissions-policy"]
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "strict-transport-security" not in headers


@pytest.mark.parametrize("url", ["/", "/api/v1/worklist", "/api/v1/studies/x", "/metrics"])
def test_nothing_of_a_study_stays_in_a_cache(settings: Settings, url: str) -> None:
    assert client(settings, "http://127.0.0.1").get(url).headers["cache-control"] == "no-store"


def test_by_https_a_browser_is_told_to_stay_there(settings: Settings) -> None:
    headers = client(settings, "https://127.0.0.1").get("/healthz").headers
    assert headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
def test_another_sites_page_opens_no_websocket(settings: Settings, headers: dict[str, str]) -> None:
    asking = client(settings, "http://127.0.0.1")
    with pytest.raises(WebSocketDisconnect) as refused, asking.websocket_connect("/ws", headers=headers):
        pass
    assert refused.value.code == 1008
