"""Whether the database answers, has our schema, and tells the same time."""

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import text

from service import wiring
from service.doctor.answers import Check, failure, ok, warning
from service.errors import DatabaseError, SchemaError, SettingsError
from service.settings import Settings
from service.store import Store, migrations

MB = 1024 * 1024
FULL = 0.8  # of the connections the server allows
CLOCK_S = 2.0  # apart: times of one study begin to contradict each other


def open_database(settings: Settings) -> Store | Check:
    """Return the store where the database answers, else what to do."""
    try:
        return wiring.open_any_store(settings)
    except (DatabaseError, SettingsError) as error:
        return failure("database", "answers", error)


def schema(store: Store) -> Check:
    """Whether this release may work on the schema there is."""
    try:
        migrations.require(store)
    except SchemaError as error:
        return failure("database", "schema", error)
    return ok("database", "schema", str(migrations.revision(store)))


def examine(store: Store) -> Iterator[Check]:
    """Size, connections, durability and clock."""
    with store.transaction() as session:
        before = datetime.now(UTC)
        theirs = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        after = datetime.now(UTC)
        version, size, used, most, is_synced = session.execute(
            text(
                "SELECT current_setting('server_version'), pg_database_size(current_database()),"
                " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
                " current_setting('max_connections')::int,"
                " current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'"
            )
        ).one()
    yield ok("database", "answers", f"PostgreSQL {version}, {size // MB} MB")
    connections = f"{used} of {most} connections"
    if used < FULL * most:
        yield ok("database", "connections", connections)
    else:
        yield warning(
            "database",
            "connections",
            connections,
            "Raise max_connections of PostgreSQL, or run fewer workers.",
        )
    if is_synced:
        yield ok("database", "durability", "fsync and full_page_writes are on")
    else:
        yield warning(
            "database",
            "durability",
            "fsync or full_page_writes is off: a power cut may cost rows",
            "Switch both on in the configuration of PostgreSQL.",
        )
    yield clock_check("database", (before - theirs).total_seconds(), (after - theirs).total_seconds())


def clock_check(whose: str, earliest_s: float, latest_s: float, *, tolerance_s: float = CLOCK_S) -> Check:
    """Whether another clock agrees with ours.

    Parameters
    ----------
    whose : str
    earliest_s, latest_s : float
        How far ours was ahead before the question and after the answer: the truth lies between.
    tolerance_s : float
    """
    apart_s = 0.0 if earliest_s <= 0 <= latest_s else min(earliest_s, latest_s, key=abs)
    told = f"{abs(apart_s):.1f} s apart"
    if abs(apart_s) <= tolerance_s:
        return ok("clock", whose, told)
    told = f"our clock is {abs(apart_s):.0f} s {'ahead of' if apart_s > 0 else 'behind'} that of the {whose}"
    return warning("clock", whose, told, "Let both machines follow one time server (chrony, NTP).")
