"""Pages of a listing, newest first. A cursor names the row behind which a page begins: new rows move none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Row, Select, SQLColumnExpression, tuple_
from sqlalchemy.orm import Session

from service.errors import StaleCursorError
from service.store import seals

USE = "listing"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which page is wanted.

    Attributes
    ----------
    of : str
        Listing and filters: a cursor belongs to those it was made for.
    limit : int
    cursor : str or None
        None: the first page.
    """

    of: str
    limit: int
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Some rows of a listing, and the cursors of the pages beside them; None where there is none."""

    items: tuple[T, ...]
    next: str | None
    previous: str | None


def read_page(
    session: Session,
    query: Select[*tuple[Any, ...]],
    numbers: Sequence[SQLColumnExpression[int]],
    place: Place,
) -> Page[Row[*tuple[Any, ...]]]:
    """Return a page of rows, highest numbers first.

    Parameters
    ----------
    session : Session
    query : Select
        The listing with its filters, without an order; its last columns are `numbers`.
    numbers : sequence of column
        By which rows are ordered; together unique.
    place : Place

    Raises
    ------
    ForgedCursorError
        If the cursor was not made here.
    StaleCursorError
        If it belongs to another listing or to other filters.
    """
    begin, is_backwards = _begin(session, place)
    if begin is not None:
        behind = tuple_(*numbers) > tuple_(*begin) if is_backwards else tuple_(*numbers) < tuple_(*begin)
        query = query.where(behind)
    order = [number.asc() if is_backwards else number.desc() for number in numbers]
    rows = session.execute(query.order_by(*order).limit(place.limit + 1)).all()
    has_more = len(rows) > place.limit
    rows = rows[: place.limit]
    if is_backwards:
        rows = rows[::-1]
    has_next, has_previous = (True, has_more) if is_backwards else (has_more, begin is not None)

    def cursor(row: Row[*tuple[Any, ...]], *, is_backwards: bool) -> str:
        return seals.seal(session, USE, [place.of, list(row[-len(numbers) :]), is_backwards])

    return Page(
        items=tuple(rows),
        next=cursor(rows[-1], is_backwards=False) if rows and has_next else None,
        previous=cursor(rows[0], is_backwards=True) if rows and has_previous else None,
    )


def _begin(session: Session, place: Place) -> tuple[list[int] | None, bool]:
    if place.cursor is None:
        return None, False
    found = seals.unseal(session, USE, place.cursor)
    if found[0] != place.of:
        raise StaleCursorError(StaleCursorError.__doc__)
    return found[1], found[2]
