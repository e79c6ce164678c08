"""Alembic's entry: runs on the connection it is handed, or on VIGIL_DATABASE_URL for the ``alembic`` tool."""

from alembic import context
from sqlalchemy import Connection, text

from service.settings import load_settings
from service.store import Store
from service.store.tables import SCHEMA, Base

LOCK = 0x56_49_47_49_4C  # "VIGIL": one migration at a time, whoever starts it


def run(connection: Connection) -> None:
    """Migrate under an advisory lock that the transaction holds."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_schemas=True,
        include_name=lambda name, kind, _: kind != "schema" or name == SCHEMA,
        version_table_schema="public",
    )
    context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    store = Store.open(load_settings().site_database_url() or "")
    with store.engine.begin() as own:
        run(own)
