"""Filters that people gave a name, so that a morning's list is one press away."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.errors import TriageError
from service.store import audit
from service.store.tables import SavedFilterRow

MOST = 50  # of one person
LONGEST_NAME = 60  # characters
LONGEST_QUERY = 2000


class TooManyFiltersError(TriageError):
    """Nobody keeps more than 50 filters. Remove one that is not used, then save this one again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedFilter:
    """A named filter.

    Attributes
    ----------
    number : int
    name : str
        As its owner typed it.
    query : str
        Query string of the list's address.
    """

    number: int
    name: str
    query: str


def of_owner(session: Session, owner: str) -> tuple[SavedFilter, ...]:
    """Return the filters of one person, by name."""
    rows = session.scalars(
        select(SavedFilterRow).where(SavedFilterRow.owner == owner).order_by(SavedFilterRow.name).limit(MOST)
    )
    return tuple(SavedFilter(number=row.id, name=row.name, query=row.query) for row in rows)


def save(session: Session, owner: str, *, name: str, query: str) -> None:
    """Keep a filter; one of the same name is replaced.

    Raises
    ------
    TooManyFiltersError
        If the person has `MOST` of other names.
    """
    others = select(func.count()).where(SavedFilterRow.owner == owner, SavedFilterRow.name != name)
    if (session.scalar(others) or 0) >= MOST:
        raise TooManyFiltersError(TooManyFiltersError.__doc__)
    added = insert(SavedFilterRow).values(owner=owner, name=name, query=query)
    session.execute(
        added.on_conflict_do_update(index_elements=["owner", "name"], set_={"query": added.excluded.query})
    )
    audit.append(session, "filter.saved", actor=owner)


def remove(session: Session, owner: str, number: int) -> None:
    """Forget a filter of one's own; one that is not there is as good as removed."""
    removed = session.scalar(
        delete(SavedFilterRow)
        .where(SavedFilterRow.id == number, SavedFilterRow.owner == owner)
        .returning(SavedFilterRow.id)
    )
    if removed is not None:
        audit.append(session, "filter.removed", actor=owner)
