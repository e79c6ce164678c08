import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from service.store import Store
from service.store.embedded import EmbeddedDatabase
from service.store.migrations import upgrade
from service.store.tables import Base

MODELS = Path(__file__).parent / "models"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Share the tests between two workers of xdist.

    Models need no machine, so each of their files, and each method's contract, goes to whoever is free.
    Everything else starts servers, listens and measures: it stays together on one worker, one after another.
    """
    for item in items:
        group = "machine"
        if item.path.is_relative_to(MODELS):
            of_record = getattr(item, "callspec", None) if item.path.name == "test_methods.py" else None
            group = of_record.id if of_record else str(item.path.relative_to(MODELS))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of the real data sets; they are not part of the repository."""
    folder = os.environ.get("VIGIL_TEST_DATA")
    if not folder:
        pytest.skip("VIGIL_TEST_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a migrated PostgreSQL: the one VIGIL_TEST_DATABASE_URL names, else the embedded one."""
    given = os.environ.get("VIGIL_TEST_DATABASE_URL")
    if given:
        _migrate(given)
        yield given
        return
    database = EmbeddedDatabase(tmp_path_factory.mktemp("database"))
    database.prepare()
    # Nothing of a test has to survive a power cut, and syncing is most of its time.
    command = [*database.command(), "-c", "fsync=off", "-c", "synchronous_commit=off"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        database.wait_until_ready()
        _migrate(database.url)
        yield database.url
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """Store on empty tables."""
    store = Store.open(database_url)
    empty(store)
    yield store
    store.close()


def empty(store: Store) -> None:
    """Remove all rows, the audit trail's too: only a test may, and only by switching its trigger off."""
    tables = ", ".join(f"vigil.{table.name}" for table in Base.metadata.sorted_tables)
    with store.transaction() as session:
        session.execute(text("ALTER TABLE vigil.audit DISABLE TRIGGER ALL"))
        session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        session.execute(text("TRUNCATE procrastinate_jobs, procrastinate_workers RESTART IDENTITY CASCADE"))
        session.execute(text("ALTER TABLE vigil.audit ENABLE TRIGGER ALL"))


def _migrate(url: str) -> None:
    store = Store.open(url)
    upgrade(store)
    store.close()
