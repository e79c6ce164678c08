"""Schema changes, applied in order by ``vigil db upgrade`` and at the start of ``vigil up``."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.errors import SchemaAheadError, SchemaBehindError
from service.store import Store


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def upgrade(store: Store) -> None:
    """Bring the database to the newest schema. Safe to run from several processes at once.

    A newer schema that lets this release work is left as it is.

    Raises
    ------
    SchemaAheadError
        If the database belongs to a newer release.
    """
    config = _config()
    with store.engine.begin() as connection:
        if _is_unknown(_current(connection)):
            _require_support(connection)
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def downgrade(store: Store, to: str) -> None:
    """Take the schema back to an earlier migration; what later ones added goes, with its rows.

    Raises
    ------
    SchemaAheadError
        If nobody here knows the database's migration, or the one that is wanted.
    """
    config = _config()
    with store.engine.begin() as connection:
        if not is_known(to) or _is_unknown(_current(connection)):
            raise SchemaAheadError(SchemaAheadError.__doc__)
        config.attributes["connection"] = connection
        command.downgrade(config, to)


def load(connection: Connection, revision: str, fill: Callable[[], None]) -> None:
    """Make an empty database one of a revision, let it be filled, and bring it to the newest.

    It may have a schema of ours without rows, as an upgrade leaves it.

    Parameters
    ----------
    connection : Connection
        In a transaction, which the caller ends: all of it is there, or nothing.
    revision : str
    fill : callable
        Called while the database has the schema of `revision`.

    Raises
    ------
    SchemaAheadError
        If nobody here knows the revision, or that of the schema.
    """
    there = _current(connection)
    if _is_unknown(revision) or _is_unknown(there):
        raise SchemaAheadError(SchemaAheadError.__doc__)
    config = _config()
    config.attributes["connection"] = connection
    order = _revisions()
    if there is not None and order.index(there) < order.index(revision):
        command.downgrade(config, revision)
    command.upgrade(config, revision)
    fill()
    command.upgrade(config, "head")


def is_known(revision: str) -> bool:
    """Whether this release has a migration."""
    return not _is_unknown(revision)


def require(store: Store) -> None:
    """Return where this release may work on the database as it is.

    It may on its own schema, and on a newer one that names this release, or an older, as supported: so the
    workers of the previous release go on beside the new ones, where the migration only adds.

    Raises
    ------
    SchemaBehindError, SchemaAheadError
    """
    with store.engine.connect() as connection:
        current = _current(connection)
        if _is_unknown(current):
            _require_support(connection)
        elif current != _revisions()[0]:
            raise SchemaBehindError(SchemaBehindError.__doc__)


def revision(store: Store) -> str | None:
    """Newest migration that the database has; None where it has none."""
    with store.engine.connect() as connection:
        return _current(connection)


@cache
def _revisions() -> tuple[str, ...]:
    """Our migrations, newest first."""
    script = ScriptDirectory.from_config(_config())
    return tuple(migration.revision for migration in script.walk_revisions())


def _current(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": "public"})
    return context.get_current_revision()


def _is_unknown(revision: str | None) -> bool:
    return revision is not None and revision not in _revisions()


def _require_support(connection: Connection) -> None:
    is_told = connection.scalar(text("SELECT to_regclass('vigil.schema_support') IS NOT NULL"))
    oldest = connection.scalar(text("SELECT oldest FROM vigil.schema_support")) if is_told else None
    if oldest not in _revisions():
        raise SchemaAheadError(SchemaAheadError.__doc__)
