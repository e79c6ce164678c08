"""Databases beside the one of the tests, on its server."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.engine import make_url

from service.store import Store


@contextmanager
def empty_databases(store: Store, *names: str) -> Iterator[list[Store]]:
    """Databases without a schema beside the one of the tests, gone when the block ends."""
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in names:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name}"))
            connection.execute(text(f"CREATE DATABASE {name}"))
        url = make_url(store.url)
        opened = [Store.open(url.set(database=name).render_as_string(hide_password=False)) for name in names]
        yield opened
        for made in opened:
            made.close()
        for name in names:
            connection.execute(text(f"DROP DATABASE {name}"))
