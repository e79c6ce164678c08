from pathlib import Path

import pytest
from starlette.websockets import WebSocketDisconnect

from service.api import create_app
from service.errors import SettingsError
from service.provider import Provider
from service.settings import Settings
from service.site_address import page_address
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


PUBLIC = "https://vigil.hospital.example"


@pytest.fixture
def behind_a_proxy(settings: Settings) -> TestClient:
    """Client of an API on loopback whose site has named its public address."""
    return client(settings.model_copy(update={"address": PUBLIC}), "http://127.0.0.1")


@pytest.mark.parametrize("host", ["vigil.hospital.example", "VIGIL.hospital.example:443", "127.0.0.1:8080"])
def test_the_public_name_of_a_site_is_answered_besides_this_machines(
    behind_a_proxy: TestClient, host: str
) -> None:
    assert behind_a_proxy.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["hospital.example", "evil.example", "vigil.hospital.example.evil.example"])
def test_with_a_public_name_a_strangers_is_refused_all_the_same(
    behind_a_proxy: TestClient, host: str
) -> None:
    assert behind_a_proxy.get("/healthz", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (PUBLIC, 405),  # let in: nothing there takes a POST
        (f"{PUBLIC}:443", 405),
        ("http://vigil.hospital.example", 403),
        (f"{PUBLIC}:8443", 403),
        ("http://[::1", 403),
    ],
)
def test_a_page_of_the_public_address_is_our_own_however_the_proxy_calls_us(
    behind_a_proxy: TestClient, origin: str, status: int
) -> None:
    assert behind_a_proxy.post("/healthz", headers={"Origin": origin}).status_code == status


def test_the_address_in_the_file_of_the_identity_provider_counts_where_the_settings_name_none(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "oidc.yaml"
    file.write_text(f"{{issuer: {PUBLIC}, client_id: v, address: {PUBLIC}, roles: {{a: reader}}}}")
    named = client(settings.model_copy(update={"oidc": file}), "http://127.0.0.1")

    assert named.get("/healthz", headers={"Host": "vigil.hospital.example"}).status_code == 200


def test_links_begin_with_the_public_address(settings: Settings) -> None:
    assert page_address(settings) == f"http://{settings.api_host}:{settings.api_port}"
    assert page_address(settings.model_copy(update={"address": f"{PUBLIC}/"})) == PUBLIC


def test_an_address_that_is_said_twice_and_otherwise_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "oidc.yaml"
    said = f"issuer: {PUBLIC}, client_id: v, roles: {{a: reader}}"
    file.write_text(f"{{{said}}}")
    assert Provider.open(file, PUBLIC).redirect.startswith(f"{PUBLIC}/sign-in/")
    with pytest.raises(SettingsError, match="VIGIL_ADDRESS"):
        Provider.open(file, None)
    file.write_text(f"{{{said}, address: 'https://other.example'}}")
    with pytest.raises(SettingsError, match="VIGIL_ADDRESS"):
        Provider.open(file, PUBLIC)


@pytest.mark.parametrize("url", ["/", "/healthz", "/nowhere", "/static/vigil.css", "/api/v1/worklist"])
def test_every_answer_carries_the_security_headers(settings: Settings, url: str) -> None:
    headers = client(settings, "http://127.0.0.1").get(url).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
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
