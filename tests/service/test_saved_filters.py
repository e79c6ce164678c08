import pytest
from sqlalchemy import select

from service.store import Store, saved_filters
from service.store.saved_filters import MOST, TooManyFiltersError
from service.store.tables import AuditRow

pytestmark = pytest.mark.postgres


def test_a_person_sees_their_own_filters_and_a_second_of_one_name_replaces_the_first(store: Store) -> None:
    with store.transaction() as session:
        saved_filters.save(session, "ada", name="stat", query="priority=stat")
        saved_filters.save(session, "ada", name="brains", query="text=brain")
        saved_filters.save(session, "ada", name="stat", query="priority=urgent")
        saved_filters.save(session, "bob", name="stat", query="")
    with store.transaction() as session:
        found = saved_filters.of_owner(session, "ada")
        assert [(item.name, item.query) for item in found] == [
            ("brains", "text=brain"),
            ("stat", "priority=urgent"),
        ]


def test_nobody_removes_the_filter_of_another(store: Store) -> None:
    with store.transaction() as session:
        saved_filters.save(session, "ada", name="stat", query="")
        (kept,) = saved_filters.of_owner(session, "ada")
        saved_filters.remove(session, "bob", kept.number)
        assert saved_filters.of_owner(session, "ada") == (kept,)
        saved_filters.remove(session, "ada", kept.number)
        assert saved_filters.of_owner(session, "ada") == ()


def test_changes_are_on_record_without_what_was_asked(store: Store) -> None:
    with store.transaction() as session:
        saved_filters.save(session, "ada", name="secret", query="text=secret")
        (kept,) = saved_filters.of_owner(session, "ada")
        saved_filters.remove(session, "ada", kept.number)
        rows = session.scalars(select(AuditRow).order_by(AuditRow.number)).all()
        assert [(row.action, row.actor) for row in rows] == [
            ("filter.saved", "ada"),
            ("filter.removed", "ada"),
        ]
        assert "secret" not in str([row.detail for row in rows])


def test_there_is_an_end_to_how_many_filters_one_keeps(store: Store) -> None:
    with store.transaction() as session:
        for number in range(MOST):
            saved_filters.save(session, "ada", name=str(number), query="")
        saved_filters.save(session, "ada", name="7", query="text=again")
        with pytest.raises(TooManyFiltersError):
            saved_filters.save(session, "ada", name="one more", query="")
