"""What PostgreSQL refuses, whoever writes."""

from enum import StrEnum
from itertools import permutations

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.store import Store
from service.store.tables import DeliveryRow, ScoreRow, StudyRow
from service.study import DELIVERY_MOVES, MOVES, SCORE_MOVES, DeliveryStatus, State
from tests.seeds import Seed, plant

pytestmark = pytest.mark.postgres


@pytest.fixture
def planted(store: Store) -> Store:
    with store.transaction() as session:
        plant(session, Seed(name="a", results={"sr": {"pacs": DeliveryStatus.STORED}}))
    return store


def _allowed(session: Session, statement: str, before: StrEnum, after: StrEnum, table: str) -> bool:
    """Whether the database lets a row go from one state to another by plain SQL."""
    savepoint = session.begin_nested()
    try:
        session.execute(text(f"ALTER TABLE vigil.{table} DISABLE TRIGGER {table}_moves"))
        session.execute(text(statement), {"after": before.value})
        session.execute(text(f"ALTER TABLE vigil.{table} ENABLE TRIGGER {table}_moves"))
        with session.begin_nested():
            session.execute(text(statement), {"after": after.value})
    except IntegrityError as error:
        if error.orig.diag.constraint_name != f"{table}_moves":  # type: ignore[union-attr]
            raise
        return False
    else:
        return True
    finally:
        savepoint.rollback()


def _moves(session: Session, states: type[StrEnum], table: str, statement: str) -> set[tuple[str, str]]:
    return {
        (before, after)
        for before, after in permutations(states, 2)
        if _allowed(session, statement, before, after, table)
    }


def test_the_database_allows_a_study_the_moves_of_the_table_and_no_other(planted: Store) -> None:
    statement = (
        "UPDATE vigil.study SET state = CAST(:after AS text), reason = 'localiser',"
        " ended_at = CASE WHEN CAST(:after AS text) IN ('scored', 'not_assessable', 'failed') THEN now() END"
    )
    with planted.transaction() as session:
        allowed = _moves(session, State, "study", statement)

    assert allowed == {(before, after) for before, afters in MOVES.items() for after in afters}


def test_the_database_allows_a_score_the_moves_of_the_table_and_no_other(planted: Store) -> None:
    states = StrEnum("Score", {m.name: m.value for m in {*SCORE_MOVES, *SCORE_MOVES[State.QUEUED]}})  # type: ignore[misc]
    statement = (
        "UPDATE vigil.score SET state = CAST(:after AS text), reason = 'localiser',"
        " ended_at = CASE WHEN CAST(:after AS text) IN ('scored', 'not_assessable', 'failed') THEN now() END,"
        " p_value = CASE WHEN CAST(:after AS text) = 'scored' THEN 0.5 END,"
        " study_score = CASE WHEN CAST(:after AS text) = 'scored' THEN 1.0 END"
    )
    with planted.transaction() as session:
        allowed = _moves(session, states, "score", statement)

    assert allowed == {(before, after) for before, afters in SCORE_MOVES.items() for after in afters}


def test_the_database_allows_a_delivery_the_moves_of_the_table_and_no_other(planted: Store) -> None:
    statement = (
        "UPDATE vigil.delivery SET status = CAST(:after AS text), error = 'why',"
        " ended_at = CASE WHEN CAST(:after AS text) <> 'waiting' THEN now() END"
    )
    with planted.transaction() as session:
        allowed = _moves(session, DeliveryStatus, "delivery", statement)

    assert allowed == {(before, after) for before, afters in DELIVERY_MOVES.items() for after in afters}


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE vigil.study SET ended_at = NULL", "ended_has_a_time"),
        ("UPDATE vigil.study SET completed_at = NULL", "complete_has_a_time"),
        ("UPDATE vigil.study SET priority = 9", "study_priority"),
        ("UPDATE vigil.score SET ended_at = NULL", "ended_has_a_time"),
        ("UPDATE vigil.score SET p_value = NULL", "scored_has_a_p_value"),
        ("UPDATE vigil.score SET p_value = 0", "p_value_is_a_probability"),
        ("UPDATE vigil.score SET study_score = NULL", "scored_has_a_score"),
        ("UPDATE vigil.delivery SET ended_at = NULL", "ended_has_a_time"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(planted: Store, statement: str, constraint: str) -> None:
    with pytest.raises(IntegrityError) as refused, planted.transaction() as session:
        session.execute(text(statement))

    assert constraint in str(refused.value.orig.diag.constraint_name)  # type: ignore[union-attr]


@pytest.mark.parametrize("state", [State.FAILED, State.NOT_ASSESSABLE])
def test_no_study_ends_without_score_and_without_reason(store: Store, state: State) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=state))

    for row in (StudyRow, ScoreRow):
        with pytest.raises(IntegrityError), store.transaction() as session:
            session.scalars(select(row)).one().reason = None


def test_an_undelivered_result_says_why(store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", results={"sr": {"pacs": DeliveryStatus.UNDELIVERED}}))

    with pytest.raises(IntegrityError), store.transaction() as session:
        session.scalars(select(DeliveryRow)).one().error = ""
