"""How urgent studies are that have not come yet: orders, by pseudonyms of what they are for."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.store.among import among
from service.store.tables import AwaitedRow, IdentityRow, StudyRow

KEEP = timedelta(days=90)  # an order whose study has not come by then is not waited for


def note(session: Session, marks: Sequence[str], priority: int) -> None:
    """Remember how urgent a study is to be; never less than was said before (I12)."""
    for mark in sorted(marks):  # in one order, so that two at once do not wait for each other
        added = insert(AwaitedRow).values(mark=mark, priority=priority)
        session.execute(
            added.on_conflict_do_update(
                index_elements=["mark"],
                set_={
                    "priority": func.greatest(AwaitedRow.priority, added.excluded.priority),
                    "noted_at": func.now(),
                },
            )
        )
    session.execute(delete(AwaitedRow).where(AwaitedRow.noted_at < datetime.now(UTC) - KEEP))


def forget(session: Session, marks: Sequence[str]) -> None:
    """Let go of an order that was cancelled before its study came."""
    session.execute(delete(AwaitedRow).where(AwaitedRow.mark.in_(marks)))


def priority_of(session: Session, marks: Sequence[str]) -> int | None:
    """Return how urgent a study was ordered; None where nobody said."""
    return session.scalar(select(func.max(AwaitedRow.priority)).where(AwaitedRow.mark.in_(marks)))


def among_marks(session: Session, marks: Collection[str]) -> frozenset[str]:
    """Return the marks, among those given, that an order waits for."""
    return frozenset(session.scalars(select(AwaitedRow.mark).where(among(AwaitedRow.mark, marks))))


def keys_of(session: Session, accession_number: str) -> tuple[str, ...]:
    """Keys of the studies that are here of an accession number."""
    rows = session.scalars(
        select(StudyRow.key)
        .join(IdentityRow, IdentityRow.study_id == StudyRow.id)
        .where(IdentityRow.accession_number == accession_number)
        .order_by(StudyRow.key)
    )
    return tuple(rows)


def is_known(session: Session, key: str) -> bool:
    """Whether a study is here."""
    return session.scalar(select(StudyRow.id).where(StudyRow.key == key)) is not None
