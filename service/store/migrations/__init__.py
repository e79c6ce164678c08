"""Schema changes, applied in order by ``vigil db upgrade`` and at the start of ``vigil up``."""

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
