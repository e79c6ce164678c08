from pathlib import Path

import pytest

from service.api import create_app
from service.settings import Settings
from service.store import Store
from tests.seeds import MODEL, NEVER_OVERDUE_S
from tests.web_client import TestClient


@pytest.fixture
def browser(store: Store, tmp_path: Path) -> TestClient:
    """Client that asks for pages, as a browser does, on empty tables."""
    app = create_app(
        store=store,
        settings=Settings(data=tmp_path, access="open", longest_unread_s=NEVER_OVERDUE_S),
        model=MODEL,
    )
    return TestClient(app, base_url="http://127.0.0.1:8080", headers={"Accept": "text/html"})
