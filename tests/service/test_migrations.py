import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from service.access import Role
from service.cli import app
from service.errors import SchemaAheadError, SchemaBehindError, SchemaError
from service.node import run_loops
from service.store import Store, audit, migrations, people
from service.store.migrations import require, upgrade
from service.store.tables import SCHEMA, Base
from service.study import DeliveryStatus, Priority, State
from tests.databases import empty_databases
from tests.seeds import MORNING, Seed, plant

pytestmark = pytest.mark.postgres

PLACES = "SELECT band, p_value, study_score{} FROM vigil.study ORDER BY id"


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


@pytest.fixture
def older(store: Store, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A database of its own, as an older release left it, 0002 where nothing is said."""
    with empty_databases(store, "older") as (older,):
        bring(older, command.upgrade, getattr(request, "param", "0002"))
        yield older


def test_rows_of_an_older_release_are_brought_under_the_new_rules(older: Store) -> None:
    with older.transaction() as session:
        session.execute(
            text(
                "INSERT INTO vigil.study (key, state, received_at, last_instance_at, is_pending)"
                " VALUES ('a', 'failed', now(), now(), false), ('b', 'scored', now(), now(), false)"
            )
        )
        session.execute(
            text(
                "INSERT INTO vigil.revision (study_id, number, content_hash, completed_by)"
                " SELECT id, 1, key, 'quiet_period' FROM vigil.study"
            )
        )
        session.execute(
            text(
                "INSERT INTO vigil.score (revision_id, model_hash, config_digest, run_at, state, ended_at)"
                " SELECT id, 'm', 'c', now(), 'queued', now() FROM vigil.revision"
            )
        )
    with pytest.raises(SchemaBehindError):
        require(older)

    upgrade(older)

    require(older)
    with older.transaction() as session:
        reasons = session.execute(text("SELECT reason, ended_at FROM vigil.study ORDER BY key")).all()
        assert [reason for reason, _ in reasons] == ["attempts_used_up", None]
        assert all(ended_at for _, ended_at in reasons)
        assert session.scalars(text("SELECT ended_at FROM vigil.score")).all() == [None, None]


def differences(store: Store) -> list[object]:
    """What the tables in the code have that the database has not, and the other way round."""
    url = make_url(store.url).set(drivername="postgresql+psycopg")
    plain = create_engine(url, connect_args={"options": "-c search_path=public"})
    with plain.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
                "include_object": lambda _, name, kind, __, ___: (kind, name) != ("table", "schema_support"),
                "version_table_schema": "public",
            },
        )
        found: list[object] = compare_metadata(context, Base.metadata)
    plain.dispose()
    return found


def test_the_tables_in_the_code_are_those_that_the_migrations_make(store: Store) -> None:
    assert differences(store) == []


FIRST_ROWS = """
    INSERT INTO vigil.study (key, state, received_at, last_instance_at, is_pending, completed_at, ended_at)
        VALUES ('first', 'scored', now(), now(), false, now(), now());
    INSERT INTO vigil.instance
        (study_id, file_name, sha256, bytes, sop_class_uid, is_own, sender, received_at)
        VALUES (1, 'a.dcm', 's', 1, '1.2', false, 'MR1', now());
    INSERT INTO vigil.revision (study_id, number, content_hash, completed_by)
        VALUES (1, 1, 'h', 'quiet_period');
    INSERT INTO vigil.score
        (revision_id, model_hash, config_digest, run_at, state, study_score, p_value, ended_at)
        VALUES (1, 'm', 'c', now(), 'scored', 2.0, 0.25, now());
    INSERT INTO vigil.result (score_id, kind, sop_class_uid, sop_instance_uid, path, sha256, bytes)
        VALUES (1, 'sr', '1.2', '1.3', 'first/sr.dcm', 's', 1);
    INSERT INTO vigil.delivery (result_id, destination, status, ended_at)
        VALUES (1, 'pacs', 'stored', now())
"""
OF_EVERY_RELEASE = """
    SELECT study.key, study.state, content_hash, score.p_value, result.sha256, delivery.status
    FROM vigil.study
    LEFT JOIN vigil.revision ON revision.study_id = study.id
    LEFT JOIN vigil.score ON score.revision_id = revision.id
    LEFT JOIN vigil.result ON result.score_id = score.id
    LEFT JOIN vigil.delivery ON delivery.result_id = result.id
    ORDER BY 1, 3, 6
"""


def rows_of(store: Store) -> list[Any]:
    """Rows that every release has; the audit trail is verified on the way."""
    with store.transaction() as session:
        audit.verify(session)
        return [tuple(row) for row in session.execute(text(OF_EVERY_RELEASE))]


@pytest.mark.parametrize("older", ["0001"], indirect=True)
def test_a_database_with_rows_goes_through_every_release_and_back(older: Store) -> None:
    upwards = list(reversed(migrations._revisions()))
    with older.transaction() as session:
        for statement in FIRST_ROWS.split(";"):
            session.execute(text(statement))
        audit.append(session, "study.scored", actor="worker", study_key="first")
    first = rows_of(older)
    assert len(first) == 1

    for revision in upwards[1:]:
        bring(older, command.upgrade, revision)
        assert rows_of(older) == first, revision
    require(older)
    with older.transaction() as session:  # what only the newest release writes
        pacs = {"sr": {"pacs": DeliveryStatus.STORED, "board": DeliveryStatus.UNDELIVERED}}
        plant(
            session,
            Seed(name="a", results=pacs, seen_at=MORNING),
            Seed(name="b", state=State.FAILED, priority=Priority.STAT),
            Seed(name="c", state=State.QUEUED, revisions=2, parked_at=MORNING),
        )
        people.invite(session, Role.ADMIN, actor="first start")
    newest = rows_of(older)
    assert len(newest) == 6

    for revision in reversed(upwards[:-1]):
        migrations.downgrade(older, revision)
        assert rows_of(older) == newest, revision
    with pytest.raises(SchemaBehindError):
        require(older)

    upgrade(older)

    assert rows_of(older) == newest
    assert differences(older) == []


def bring(store: Store, way: Callable[[Config, str], None], revision: str) -> None:
    """Take a database to a migration by Alembic's own commands."""
    config = migrations._config()
    with store.engine.begin() as connection:
        config.attributes["connection"] = connection
        way(config, revision)


def test_a_schema_goes_back_to_no_release_that_nobody_knows(store: Store) -> None:
    with pytest.raises(SchemaAheadError):
        migrations.downgrade(store, "9999")
    refused = CliRunner().invoke(app, ["db", "downgrade", "0012"])
    assert refused.exit_code == 2
    require(store)


@pytest.mark.parametrize("older", ["0004"], indirect=True)
def test_the_studies_of_an_older_release_take_their_places(older: Store) -> None:
    """One of each state, one parked, one whose older revision alone was scored."""
    with older.engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO vigil.study
                    (key, state, reason, received_at, last_instance_at, is_pending, completed_at, ended_at,
                     parked_at)
                SELECT key, state, reason, now(), now(), false, now(), ended, parked FROM (VALUES
                    ('scored', 'scored', NULL, now(), NULL),
                    ('again', 'queued', NULL, NULL, NULL),
                    ('failed', 'failed', 'attempts_used_up', now(), NULL),
                    ('declined', 'not_assessable', 'localiser', now(), NULL),
                    ('parked', 'queued', NULL, NULL, now()),
                    ('complete', 'complete', NULL, NULL, NULL)
                ) AS made (key, state, reason, ended, parked)
            """)
        )
        connection.execute(
            text("""
                INSERT INTO vigil.revision (study_id, number, content_hash, completed_by)
                SELECT study.id, number, key || number, 'quiet_period'
                FROM vigil.study, generate_series(1, CASE key WHEN 'again' THEN 2 ELSE 1 END) AS number
                WHERE key <> 'complete'
            """)
        )
        connection.execute(
            text("""
                INSERT INTO vigil.score
                    (revision_id, model_hash, config_digest, run_at, state, reason, p_value, study_score,
                     model_name, ended_at)
                SELECT revision.id, 'm', 'c', now(), made.state, made.reason, made.p_value, made.p_value * 2,
                    'brain',
                    CASE made.state WHEN 'queued' THEN NULL ELSE now() END
                FROM (VALUES
                    ('scored', 1, 'scored', NULL, 0.25::float),
                    ('again', 1, 'scored', NULL, 0.5),
                    ('again', 2, 'queued', NULL, NULL),
                    ('failed', 1, 'failed', 'attempts_used_up', NULL),
                    ('declined', 1, 'not_assessable', 'localiser', NULL),
                    ('parked', 1, 'queued', NULL, NULL)
                ) AS made (key, number, state, reason, p_value)
                JOIN vigil.study USING (key)
                JOIN vigil.revision ON study_id = study.id AND revision.number = made.number
            """)
        )

    upgrade(older)

    with older.transaction() as session:
        found = session.execute(text("SELECT key, band, p_value, study_score FROM vigil.study"))
        places = {key: place for key, *place in found}
        told = session.scalar(text("SELECT count(*) FROM vigil.outbox"))
        seen = session.scalars(text("SELECT key FROM vigil.study WHERE seen_by = 'upgrade'")).all()
    unjudged, pending = [0, None, None], [2, None, None]
    assert places == {
        "scored": [1, 0.25, 0.5],
        "again": pending,
        "failed": unjudged,
        "declined": unjudged,
        "parked": unjudged,
        "complete": pending,
    }
    assert told == 0
    assert set(seen) == {"scored", "failed", "declined"}  # what ended is no news, and not overdue either


@pytest.mark.parametrize("older", ["0014"], indirect=True)
def test_calibrations_come_and_go_and_no_number_of_an_uncalibrated_study_stays_behind(older: Store) -> None:
    upgrade(older)
    with older.transaction() as session:
        plant(
            session,
            Seed(name="a", state=State.NOT_ASSESSABLE, reason="uncalibrated"),
            Seed(name="b", p_value=0.25, study_score=2.0, tail=0.125),
        )
        places = [tuple(row) for row in session.execute(text(PLACES.format(", tail")))]
    assert places == [(3, None, 1.0, None), (1, 0.25, 2.0, 0.125)]

    config = migrations._config()
    with older.engine.begin() as own:
        config.attributes["connection"] = own
        command.downgrade(config, "0014")
    with older.transaction() as session:
        before = [tuple(row) for row in session.execute(text(PLACES.format("")))]
    upgrade(older)  # again

    assert before == [(0, None, None), (1, 0.25, 2.0)]


@pytest.mark.parametrize("older", ["0018"], indirect=True)
def test_a_withdrawn_delivery_is_one_that_was_given_up_for_an_older_release(older: Store) -> None:
    upgrade(older)
    results = {"sr": {"pacs": DeliveryStatus.WITHDRAWN, "board": DeliveryStatus.STORED}}
    with older.transaction() as session:
        plant(session, Seed(name="a", results=results))

    migrations.downgrade(older, "0018")

    query = text("SELECT destination, status, error <> '' FROM vigil.delivery ORDER BY 1")
    with older.transaction() as session:
        assert [tuple(row) for row in session.execute(query)] == [
            ("board", "stored", False),
            ("pacs", "undelivered", True),
        ]
        assert session.scalar(text("SELECT oldest FROM vigil.schema_support")) == "0015"
    upgrade(older)
    require(older)


@pytest.mark.parametrize("older", ["0018"], indirect=True)
def test_studies_that_failed_before_take_back_what_they_had_said(older: Store) -> None:
    with older.engine.begin() as connection:
        connection.execute(
            text("""
            INSERT INTO vigil.study
                (key, state, reason, received_at, last_instance_at, is_pending, completed_at, ended_at)
            SELECT key, state, reason, now(), now(), false, now(), now() FROM (VALUES
                ('failed', 'failed', 'attempts_used_up'), ('scored', 'scored', NULL),
                ('never', 'failed', 'x'), ('unreadable', 'not_assessable', 'unreadable')
            ) AS made (key, state, reason);
            INSERT INTO vigil.revision (study_id, number, content_hash, completed_by)
            SELECT study.id, number, key || number, 'quiet_period'
            FROM vigil.study, generate_series(1, CASE key WHEN 'never' THEN 1 ELSE 2 END) AS number;
            INSERT INTO vigil.score
                (revision_id, model_hash, config_digest, run_at, state, reason, p_value, study_score,
                 ended_at)
            SELECT revision.id, 'm', 'c', now(), made, CASE made WHEN 'scored' THEN NULL ELSE 'x' END,
                CASE made WHEN 'scored' THEN 0.5 END, CASE made WHEN 'scored' THEN 1.0 END, now()
            FROM vigil.revision JOIN vigil.study ON study.id = study_id,
                LATERAL (
                    SELECT CASE WHEN number = 2 OR key = 'never' THEN state ELSE 'scored' END AS made
                ) AS one
            ORDER BY number;
            INSERT INTO vigil.result (score_id, kind, sop_class_uid, sop_instance_uid, path, sha256, bytes)
            SELECT id, 'sr', '1.2', '1.' || id, 'x', 's', 1 FROM vigil.score WHERE state = 'scored'
        """)
        )

    upgrade(older)

    query = text(
        "SELECT key FROM vigil.study JOIN vigil.score ON score.id = score_id WHERE retraction = :state"
        " ORDER BY key"
    )
    with older.transaction() as session:
        assert session.scalars(query, {"state": "wanted"}).all() == ["failed", "unreadable"]
        session.execute(  # one is made, and then the schema goes back, and comes again
            text("""
            UPDATE vigil.score SET retraction = 'made'
            FROM vigil.study WHERE score_id = score.id AND key = 'failed';
            INSERT INTO vigil.result (score_id, kind, sop_class_uid, sop_instance_uid, path, sha256, bytes)
            SELECT score_id, 'sr_retraction', '1.2', '1.99', 'x', 's', 1 FROM vigil.study WHERE key = 'failed'
        """)
        )
    migrations.downgrade(older, "0018")
    upgrade(older)
    with older.transaction() as session:
        assert session.scalars(query, {"state": "wanted"}).all() == ["unreadable"]
        assert session.scalars(query, {"state": "made"}).all() == ["failed"]
