from service.api import create_app
from service.api.dependencies import DISCLAIMER
from tests.web_client import TestClient


def test_numbers_are_described_with_their_direction(stranded: TestClient) -> None:
    document = stranded.get("/openapi.json").json()
    units = document["components"]["schemas"]["Assessment"]["properties"]["percentile"]
    assert "Low is unusual" in units["description"]


def test_no_page_of_the_framework_loads_scripts_from_elsewhere(stranded: TestClient) -> None:
    assert stranded.get("/docs").status_code == 404
    assert stranded.get("/redoc").status_code == 404


def test_an_application_without_a_model_still_says_what_it_is_not(stranded: TestClient) -> None:
    settings = stranded.app.state.parts.settings  # type: ignore[attr-defined]
    store = stranded.app.state.parts.store  # type: ignore[attr-defined]
    app = create_app(store=store, settings=settings)
    assert app.state.parts.disclaimer == DISCLAIMER
    assert "not a diagnosis" in DISCLAIMER
