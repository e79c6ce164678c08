import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from service.store import COUNT, IDLE_TRANSACTION_S, UNANSWERED_MS, Store, conninfo


@pytest.mark.postgres
def test_locks_of_a_process_that_stands_still_are_taken_back_on_every_way_to_the_database(
    database_url: str,
) -> None:
    store = Store.open(database_url)
    with store.transaction() as session, psycopg.connect(conninfo(database_url)) as connection:
        ours = session.scalar(text("SHOW idle_in_transaction_session_timeout"))
        engine = connection.execute("SHOW idle_in_transaction_session_timeout").fetchone()
    store.close()

    assert ours == f"{IDLE_TRANSACTION_S}s"
    assert engine == (ours,)


@pytest.mark.postgres
def test_a_transaction_that_stands_still_is_ended_and_the_next_one_works(database_url: str) -> None:
    store = Store.open(database_url)
    with pytest.raises(Exception, match="idle-in-transaction"), store.transaction() as session:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
        with psycopg.connect(conninfo(database_url)) as other:
            other.execute("SELECT pg_sleep(0.3)")
        session.execute(text("SELECT 1"))

    store.check()
    store.close()


def test_a_network_that_breaks_without_a_word_is_noticed_by_both_ends() -> None:
    given = conninfo_to_dict(conninfo("postgresql://vigil@db.example/vigil"))

    assert given["tcp_user_timeout"] == str(UNANSWERED_MS)
    assert given["keepalives_count"] == str(COUNT)
    assert f"-c tcp_user_timeout={UNANSWERED_MS}" in str(given["options"])
    assert f"-c tcp_keepalives_count={COUNT}" in str(given["options"])
    assert UNANSWERED_MS <= 30_000
