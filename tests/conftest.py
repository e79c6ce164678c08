import gc
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from xdist.scheduler import LoadScopeScheduling

from service.store import Store
from service.store.embedded import EmbeddedDatabase
from service.store.migrations import upgrade
from service.store.tables import Base

# What starts whole machines stays together on one worker of xdist, one after another; it begins first, for
# it takes longest. Everything else goes by file, the contracts of the methods by method, to whoever is free.
MACHINES = ("tests/faults/", "tests/end_to_end/", "tests/fuzz/")
METHODS = "tests/models/making/test_methods.py"

GARBAGE = gc.get_threshold()
ENGINE = tuple(f"procrastinate_{name}" for name in ("events", "periodic_defers", "jobs", "workers"))


def pytest_configure() -> None:
    """Look for no garbage while the tests are loaded: what is loaded stays."""
    gc.set_threshold(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the machines first."""
    items.sort(key=lambda item: not item.nodeid.startswith(MACHINES))


def pytest_collection_finish() -> None:
    """Look for garbage as ever, but no more among what was loaded: a million objects, at each test."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


class Groups(LoadScopeScheduling):
    """Shares tests by group. Marks of xdist's own for that are lost on pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(MACHINES):
            return "machine"
        file, _, test = nodeid.partition("::")
        return test.partition("[")[2] if file == METHODS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    """Share tests as `Groups` does, whatever --dist says."""
    return Groups(config, log)


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
        server.wait(timeout=120)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """Store on empty tables."""
    store = Store.open(database_url)
    empty(store)
    yield store
    store.close()


def empty(store: Store) -> None:
    """Remove all rows, the audit trail's too: only a test may, and only by switching its trigger off."""
    try:
        _delete(store)
    except OperationalError:  # a deadlock with the last request of the test before, which is over now
        _delete(store)


def _delete(store: Store) -> None:
    """Row by row: of tables that hold so few, TRUNCATE costs three times as much, for it makes files."""
    tables = [*(f"vigil.{table.name}" for table in Base.metadata.sorted_tables), *ENGINE]
    with store.transaction() as session:
        # Behind whatever the test before still has under way.
        session.execute(text(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"))
        session.execute(text("SET LOCAL session_replication_role = replica"))  # neither triggers nor keys
        for table in tables:
            session.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names of ours
        # Numbers begin again.
        session.execute(
            text(
                "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false)"
                " FROM pg_sequences"
            )
        )


def _migrate(url: str) -> None:
    store = Store.open(url)
    upgrade(store)
    store.close()
