import pytest
from sqlalchemy import event, text

from service.store import Store, changes
from tests.seeds import Seed, plant

pytestmark = pytest.mark.postgres


def test_who_watches_is_told_that_the_images_of_a_study_go(store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"))
        before = changes.newest(session)
        session.execute(text("UPDATE vigil.study SET bytes_are = 'deleting'"))
    with store.transaction() as session:
        changes.newest(session)
        found = changes.since(session, before, limit=10)
    assert found is not None
    assert [change.change for change in found] == ["changed"]


def test_a_look_for_new_notices_reads_their_index_whatever_was_there_when_it_was_planned(
    store: Store,
) -> None:
    """After a flood of notices PostgreSQL believes that most have no number; reading all is no way then."""
    with store.transaction() as session:
        session.execute(
            text(
                "INSERT INTO vigil.change (study_key, change)"
                " SELECT n, 'seen' FROM generate_series(1, 3000) n"
            )
        )
        session.execute(text("ANALYZE vigil.change"))
        assert changes.newest(session) == 3000
    looks: list[str] = []

    def keep(_: object, __: object, statement: str, *___: object) -> None:
        looks.append(statement)

    event.listen(store.engine, "before_cursor_execute", keep)
    with store.transaction() as session:
        assert changes.newest(session) == 3000
        event.remove(store.engine, "before_cursor_execute", keep)
        look = looks[0].replace("%(param_1)s::INTEGER", "1")
        plan = "\n".join(session.scalars(text(f"EXPLAIN {look}")))
    assert "ix_change_new" in plan, plan
