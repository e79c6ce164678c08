import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.store import Store
from service.store.audit import AuditBrokenError, append, verify

pytestmark = pytest.mark.postgres


@pytest.fixture
def trail(store: Store) -> Store:
    with store.transaction() as session:
        append(session, "study.received", actor="node", study_key="a" * 20, instances=3)
        append(session, "study.queued", actor="node", study_key="a" * 20, revision=1)
        append(session, "study.scored", actor="worker", study_key="a" * 20, percentile=14.3)
    return store


def test_an_untouched_trail_verifies_and_tells_its_length(trail: Store) -> None:
    with trail.transaction() as session:
        head = verify(session)

    assert head.number == 3
    assert len(head.hash) == 64


def test_a_row_can_neither_be_changed_nor_removed(trail: Store) -> None:
    for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(DBAPIError, match="append-only"), trail.transaction() as session:
            session.execute(text(statement))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET detail = '{\"percentile\": 99}' WHERE number = 3",
        "UPDATE audit SET at = at + interval '1 second' WHERE number = 2",
        "DELETE FROM audit WHERE number = 2",
        "UPDATE audit SET previous = hash WHERE number = 2",
    ],
)
def test_a_change_behind_the_trigger_is_found_by_number(trail: Store, change: str) -> None:
    with trail.transaction() as session:
        session.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        session.execute(text(change))
        session.execute(text("ALTER TABLE audit ENABLE TRIGGER ALL"))

    with trail.transaction() as session, pytest.raises(AuditBrokenError, match=r"row [23]"):
        verify(session)


def test_a_rolled_back_event_leaves_no_gap(trail: Store) -> None:
    with pytest.raises(RuntimeError), trail.transaction() as session:
        append(session, "study.scored", actor="worker")
        raise RuntimeError

    with trail.transaction() as session:
        append(session, "study.failed", actor="worker")
        assert verify(session).number == 4
