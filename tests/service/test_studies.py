from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from dicom_node.spool import SpooledInstance
from service.store import Store, studies
from service.store.studies import Arrival
from service.store.tables import InstanceRow, StudyRow
from service.study import State, Whereabouts
from tests.conftest import empty

pytestmark = pytest.mark.postgres

KEY = "a" * 20
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def arrival(name: str, *, at: datetime = NOON, is_own: bool = False, modality: str = "MR") -> Arrival:
    return Arrival(
        file_name=f"{name}.dcm",
        sha256=name * 4,
        bytes=100,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        is_own=is_own,
        sender="SCANNER",
        received_at=at,
        modality=modality,
        description="Head",
    )


def arrival_of(file: SpooledInstance) -> Arrival:
    """File of a spool, as the intake finds it."""
    return replace(arrival(file.file_name.removesuffix(".dcm")), sha256=file.sha256())


def test_a_study_is_new_once(store: Store) -> None:
    with store.transaction() as session:
        assert studies.register(session, KEY, [arrival("a")]).is_new
    with store.transaction() as session:
        assert not studies.register(session, KEY, [arrival("a"), arrival("b")]).is_new

    with store.transaction() as session:
        assert studies.known_files(session, [KEY]) == {KEY: {"a.dcm", "b.dcm"}}


def test_own_results_alone_make_no_study(store: Store) -> None:
    with store.transaction() as session:
        assert not studies.register(session, KEY, [arrival("a", is_own=True)]).is_new

    with store.transaction() as session:
        assert session.scalars(select(StudyRow)).all() == []


def test_an_own_result_coming_back_makes_no_revision(store: Store) -> None:
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a")])
        first = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("seg", is_own=True)])
        assert studies.pending(session) == ()
        again = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)

    assert first is not None
    assert again is None


def test_the_quiet_period_counts_from_the_newest_instance(store: Store) -> None:
    later = NOON + timedelta(seconds=40)
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("b", at=later), arrival("a")])
        (waiting,) = studies.pending(session)

    assert waiting.last_instance_at == later
    assert waiting.senders == ("SCANNER",)


def test_a_late_instance_makes_a_second_revision_that_holds_all(store: Store) -> None:
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a")])
        first = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)
        study = session.scalars(select(StudyRow)).one()
        study.state = State.QUEUED
        session.flush()
        study.state, study.ended_at = State.SCORED, NOON
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("b")])
        second = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)

    with store.transaction() as session:
        held = {row.file_name: row.first_revision for row in session.scalars(select(InstanceRow))}
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    assert first.content_hash != second.content_hash
    assert held == {"a.dcm": 1, "b.dcm": 2}


def deleted(store: Store) -> None:
    """Let the study end, and its bytes go."""
    with store.transaction() as session:
        study = session.scalars(select(StudyRow)).one()
        study.state = State.QUEUED
        session.flush()
        study.state, study.ended_at = State.FAILED, NOON
        study.reason, study.bytes_are = "attempts_used_up", Whereabouts.DELETED
        session.execute(update(InstanceRow).values(is_deleted=True))


def come(store: Store, *names: str) -> studies.Revision | None:
    """Let instances come, and the study be complete with them."""
    with store.transaction() as session:
        studies.register(session, KEY, [arrival(name) for name in names])
        return studies.complete(session, KEY, completed_by="quiet_period", now=NOON)


def holding(store: Store) -> dict[str, int | None]:
    with store.transaction() as session:
        rows = session.scalars(select(InstanceRow).where(~InstanceRow.is_deleted))
        return {row.file_name: row.first_revision for row in rows}


def test_the_rest_of_a_deleted_study_that_comes_behind_a_part_of_it_makes_a_revision_of_the_whole(
    store: Store,
) -> None:
    """Or the study would stand for ever as that part was judged, the other half never looked at."""
    whole = come(store, "a", "b")
    deleted(store)
    part = come(store, "a")
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("b")])
    assert holding(store) == {"a.dcm": 2, "b.dcm": None}  # a job of the part does not read it
    with store.transaction() as session:
        again = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)

    made = [one for one in (whole, part, again) if one is not None]
    assert [one.number for one in made] == [1, 2, 3]
    assert len({one.content_hash for one in made}) == 3
    assert holding(store) == {"a.dcm": 2, "b.dcm": 3}


def test_a_deleted_study_that_is_all_there_again_makes_no_revision(store: Store) -> None:
    come(store, "a", "b")
    deleted(store)

    assert come(store, "a", "b") is None

    assert holding(store) == {"a.dcm": 1, "b.dcm": 1}


def test_the_worklist_shows_what_was_imaged_not_what_was_made_of_it(store: Store) -> None:
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a", modality="SR")])
        studies.register(session, KEY, [arrival("b", modality="MR")])
        studies.register(session, KEY, [arrival("c", modality="PR")])

    with store.transaction() as session:
        assert session.scalars(select(StudyRow.modality)).one() == "MR"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=st.permutations(["a", "b", "c", "d"]), cut=st.integers(0, 4))
def test_the_content_hash_does_not_depend_on_order_or_batches(
    store: Store, order: list[str], cut: int
) -> None:
    empty(store)
    with store.transaction() as session:
        studies.register(session, "b" * 20, [arrival(name) for name in "abcd"])
        expected = studies.complete(session, "b" * 20, completed_by="quiet_period", now=NOON)
        for part in (order[:cut], order[cut:]):
            if part:
                studies.register(session, KEY, [arrival(name) for name in part])
        found = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)

    assert expected is not None
    assert found is not None
    assert found.content_hash == expected.content_hash
