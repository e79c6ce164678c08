"""Whoever can change the database can cut or rewrite the trail; a head kept elsewhere finds both."""

from pathlib import Path

import pytest
from sqlalchemy import select, text

from service import witness
from service.store import Store, audit
from service.store.audit import AuditBrokenError, AuditHead
from service.store.tables import AuditRow
from service.witness import Witness

pytestmark = pytest.mark.postgres


@pytest.fixture
def trail(store: Store) -> Store:
    with store.transaction() as session:
        for number in range(5):
            audit.append(session, "study.viewed", actor="ada", study_key="a" * 20, number=number)
    return store


def as_superuser(store: Store, *statements: str) -> None:
    with store.transaction() as session:
        session.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        for statement in statements:
            session.execute(text(statement))
        session.execute(text("ALTER TABLE audit ENABLE TRIGGER ALL"))


def verify(store: Store, *kept: AuditHead) -> AuditHead:
    with store.transaction() as session:
        return audit.verify(session, kept)


def rewrite(store: Store) -> None:
    """Change a row and compute the chain anew from there, as somebody with the source can."""
    as_superuser(store, "UPDATE audit SET actor = 'eve' WHERE number = 2")
    with store.transaction() as session:
        session.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        previous = audit.BEFORE_FIRST
        for row in session.scalars(select(AuditRow).order_by(AuditRow.number)):
            row.previous, row.hash = previous, ""
            row.hash = previous = audit._hash(row)
        session.flush()
        session.execute(text("ALTER TABLE audit ENABLE TRIGGER ALL"))


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE audit SET actor = 'eve' WHERE number = 3"],
        ["DELETE FROM audit WHERE number = 3"],
        ["DELETE FROM audit WHERE number = 1"],
        ["DELETE FROM audit WHERE number = 3", "UPDATE audit SET number = number - 1 WHERE number > 3"],
        [
            "UPDATE audit SET number = 99 WHERE number = 2",
            "UPDATE audit SET number = 2 WHERE number = 3",
            "UPDATE audit SET number = 3 WHERE number = 99",
        ],
        ["INSERT INTO audit SELECT 6, at, actor, action, NULL, detail, previous, hash FROM audit LIMIT 1"],
    ],
    ids=["edited", "dropped", "first dropped", "dropped and renumbered", "reordered", "added"],
)
def test_the_chain_alone_finds_what_was_done_inside(trail: Store, statements: list[str]) -> None:
    as_superuser(trail, *statements)

    with pytest.raises(AuditBrokenError, match="breaks at row"):
        verify(trail)


def test_a_cut_tail_is_found_by_a_head_kept_elsewhere(trail: Store) -> None:
    kept = verify(trail)
    as_superuser(trail, "DELETE FROM audit WHERE number > 3")

    assert verify(trail).number == 3  # the chain alone does not show it
    with pytest.raises(AuditBrokenError, match=r"ends at row 3; it had row 5"):
        verify(trail, kept)


def test_an_emptied_trail_is_found_by_a_head_kept_elsewhere(trail: Store) -> None:
    kept = verify(trail)
    as_superuser(trail, "DELETE FROM audit")

    with pytest.raises(AuditBrokenError, match="ends at row 0"):
        verify(trail, kept)


def test_a_chain_computed_anew_is_found_by_a_head_kept_elsewhere(trail: Store) -> None:
    kept = verify(trail)
    rewrite(trail)

    assert verify(trail).number == 5  # the chain alone does not show it
    with pytest.raises(AuditBrokenError, match="another row 5"):
        verify(trail, kept)


def test_a_tail_cut_and_grown_again_is_found(trail: Store) -> None:
    kept = verify(trail)
    as_superuser(trail, "DELETE FROM audit WHERE number > 3")
    with trail.transaction() as session:
        for _ in range(4):
            audit.append(session, "study.viewed", actor="eve")

    with pytest.raises(AuditBrokenError, match="another row 5"):
        verify(trail, kept)


def test_the_file_follows_the_trail_and_not_a_false_one(trail: Store, tmp_path: Path) -> None:
    watching = Witness(store=trail, folder=tmp_path)
    watching.note()
    with trail.transaction() as session:
        audit.append(session, "study.viewed", actor="ada")
    watching.note()
    kept = witness.read(tmp_path)
    assert kept == verify(trail)

    as_superuser(trail, "DELETE FROM audit WHERE number > 3")
    with pytest.raises(AuditBrokenError, match="no longer has row 6"):
        watching.note()
    assert witness.read(tmp_path) == kept


def test_an_untouched_trail_agrees_with_all_its_heads(trail: Store) -> None:
    none = AuditHead(number=0, hash=audit.BEFORE_FIRST)
    head = verify(trail, none)

    assert verify(trail, none, head) == head
    assert AuditHead.read(str(head)) == head


@pytest.mark.parametrize("written", ["", "3", "x:y", f"-1:{'0' * 64}", f"3:{'g' * 64}"])
def test_a_file_that_holds_no_head_is_told(tmp_path: Path, written: str) -> None:
    (tmp_path / witness.FILE).write_text(written)

    with pytest.raises(AuditBrokenError, match="holds no head"):
        witness.read(tmp_path)
