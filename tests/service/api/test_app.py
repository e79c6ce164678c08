from service.settings import Settings
from service.store import Store
from service.store.objects import Unchecked
from tests.web_client import TestClient


def test_numbers_are_described_with_their_direction(stranded: TestClient) -> None:
    document = stranded.get("/openapi.json").json()
    units = document["components"]["schemas"]["Assessment"]["properties"]["percentile"]
    assert "Low is unusual" in units["description"]


def test_no_page_of_the_framework_loads_scripts_from_elsewhere(stranded: TestClient) -> None:
    assert stranded.get("/docs").status_code == 404
    assert stranded.get("/redoc").status_code == 404


def test_an_application_without_a_model_still_says_what_it_is_not(settings: Settings) -> None:
    from service.api.dependencies import Parts

    store = Store.open("postgresql://nobody@127.0.0.1:1/nothing")
    pictures = Unchecked(settings.results_folder)
    parts = Parts(store=store, settings=settings, model=None, pictures=pictures)
    assert "not a diagnosis" in parts.disclaimer
