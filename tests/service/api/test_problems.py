import pytest
from fastapi import FastAPI

from service.settings import Settings
from service.store import Store
from tests.web_client import TestClient

MEMBERS = {"type", "title", "status", "detail", "remedy"}


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/api/v2/worklist", 404),
        ("GET", "/static/nothing.css", 404),
        ("POST", "/api/v1/worklist", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/healthz?verbose=1", 422),
        ("GET", "/api/v1/worklist", 503),
        ("GET", "/readyz", 503),
    ],
)
def test_every_error_is_a_problem_document(stranded: TestClient, method: str, url: str, status: int) -> None:
    answer = stranded.request(method, url)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) >= MEMBERS
    assert answer.json()["status"] == status
    assert answer.json()["remedy"]


def test_a_defect_is_a_problem_that_tells_nothing_of_its_cause(stranded: TestClient) -> None:
    app = stranded.app
    assert isinstance(app, FastAPI)

    @app.get("/defect")
    def defect() -> None:
        raise RuntimeError("DOE^JANE")

    answer = stranded.get("/defect")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "DOE" not in answer.text


def test_a_browser_gets_the_same_words_on_a_page(stranded: TestClient) -> None:
    answer = stranded.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("text/html")
    assert "The database does not answer" in answer.text
    assert "VIGIL_DATABASE_URL" in answer.text


def test_the_api_answers_a_browser_in_json(stranded: TestClient) -> None:
    answer = stranded.get("/api/v1/worklist", headers={"Accept": "text/html"})
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_refused_method_names_the_allowed_one(stranded: TestClient) -> None:
    assert "GET" in stranded.post("/api/v1/worklist").headers["allow"]


def test_the_database_password_is_not_told(settings: Settings) -> None:
    from service.api import create_app

    store = Store.open("postgresql://nobody:hunter2@127.0.0.1:1/nothing")
    client = TestClient(create_app(store=store, settings=settings), base_url="http://localhost")
    assert "hunter2" not in client.get("/readyz").text
