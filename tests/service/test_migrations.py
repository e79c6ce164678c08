import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from service.errors import SchemaAheadError, SchemaBehindError, SchemaError
from service.node import run_loops
from service.store import Store
from service.store.migrations import require, upgrade

pytestmark = pytest.mark.postgres


@contextmanager
def of_release(store: Store, version: str | None, *, oldest: str | None = None) -> Iterator[None]:
    """Make the database say that it belongs to another release, and which one it still supports."""
    with store.engine.begin() as connection:
        before = connection.scalar(text("SELECT version_num FROM public.alembic_version"))
        supported = connection.scalar(text("SELECT oldest FROM vigil.schema_support"))
        connection.execute(text("UPDATE public.alembic_version SET version_num = :v"), {"v": version})
        connection.execute(text("UPDATE vigil.schema_support SET oldest = :o"), {"o": oldest or supported})
    try:
        yield
    finally:
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE public.alembic_version SET version_num = :v"), {"v": before})
            connection.execute(text("UPDATE vigil.schema_support SET oldest = :o"), {"o": supported})


def test_a_release_works_on_its_own_schema(store: Store) -> None:
    require(store)
    upgrade(store)  # nothing to do, again
    require(store)


def test_a_database_a_migration_behind_is_refused_with_the_command_that_helps(store: Store) -> None:
    with of_release(store, "0002"), pytest.raises(SchemaBehindError, match="vigil db upgrade"):
        require(store)


def test_a_database_a_migration_ahead_is_refused_and_left_alone(store: Store) -> None:
    with of_release(store, "9999", oldest="9999"):
        with pytest.raises(SchemaAheadError, match="Upgrade this one"):
            require(store)
        with pytest.raises(SchemaAheadError, match="Upgrade this one"):
            upgrade(store)
        with store.engine.connect() as connection:
            assert connection.scalar(text("SELECT version_num FROM public.alembic_version")) == "9999"


def test_the_previous_release_goes_on_beside_a_newer_one_that_says_so(store: Store) -> None:
    with of_release(store, "9999", oldest="0003"):
        require(store)
        upgrade(store)  # of ours: changes nothing
        with store.engine.connect() as connection:
            assert connection.scalar(text("SELECT version_num FROM public.alembic_version")) == "9999"


def test_the_intake_waits_while_the_database_belongs_to_another_release() -> None:
    """The receiver beside it is not asked: it goes on (I6)."""
    stop, checks = threading.Event(), []

    def check() -> None:
        checks.append(1)
        stop.set()
        raise SchemaError

    def never() -> None:
        raise AssertionError("opened on a foreign database")

    run_loops({"intake": never}, stop, check=check)  # type: ignore[arg-type]

    assert checks == [1]
