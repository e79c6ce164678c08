from pathlib import Path

import pytest

from service.api import create_app
from service.settings import Settings
from service.store import Store
from tests.seeds import MODEL, NEVER_OVERDUE_S
from tests.web_client import TestClient


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, access="open", longest_unread_s=NEVER_OVERDUE_S)


@pytest.fixture
def client(store: Store, settings: Settings) -> TestClient:
    """Client of the application on empty tables."""
    app = create_app(store=store, settings=settings, model=MODEL)
    return TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)


@pytest.fixture
def stranded(settings: Settings) -> TestClient:
    """Client of an application whose database does not answer."""
    store = Store.open("postgresql://nobody@127.0.0.1:1/nothing")
    app = create_app(store=store, settings=settings, model=MODEL)
    return TestClient(app, base_url="http://127.0.0.1:8080", raise_server_exceptions=False)
