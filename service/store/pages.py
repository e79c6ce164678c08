"""Pages of the list: from a cursor on, or back, along its segments."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from service.store.cursors import Cursor
from service.store.order import Segment
from service.study import Band


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One study of a page, with its place."""

    study_id: int
    segment: int
    place: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Studies of a page, in order.

    Attributes
    ----------
    found : tuple of Found
    ranked_before : int
        Ranked studies of the list before this page.
    next, previous : Cursor or None
        None where nothing comes.
    """

    found: tuple[Found, ...]
    ranked_before: int
    next: Cursor | None
    previous: Cursor | None


def turn(
    session: Session,
    segments: Sequence[Segment],
    scope: Sequence[ColumnElement[bool]],
    start: Cursor | None,
    *,
    at: datetime,
    limit: int,
    total: int,
) -> Page:
    """One page.

    Parameters
    ----------
    segments : sequence of Segment
        Of the whole list.
    scope : sequence
        Conditions of all studies that are wanted.
    start : Cursor or None
        Where the page begins, or ends; None: the list's head.
    at : datetime
        Written into the cursors.
    limit : int
    total : int
        Studies that are wanted; whoever has found so many from the head need not look for more.
    """
    backwards = start is not None and start.backwards
    most = limit + 1 if start is not None else min(limit + 1, total)
    found = _walk(session, segments, scope, start, backwards=backwards, limit=most)
    has_more = len(found) > limit
    found = found[:limit]
    if backwards:
        found.reverse()
    ranked = sum(segments[one.segment].band is Band.RANKED for one in found)
    if start is None or (backwards and not has_more):
        before = 0
    else:
        before = max(start.ranked - ranked, 0) if backwards else start.ranked
    ends = (
        [
            Cursor(at=at, backwards=False, segment=one.segment, place=one.place, ranked=count, total=total)
            for one, count in ((found[0], before), (found[-1], before + ranked))
        ]
        if found
        else [start, start]
    )
    first, last = ends
    leads_on = has_more if not backwards else True
    leads_back = has_more if backwards else start is not None
    return Page(
        found=tuple(found),
        ranked_before=before,
        next=replace(last, backwards=False) if last and leads_on else None,
        previous=replace(first, backwards=True) if first and leads_back else None,
    )


def _walk(
    session: Session,
    segments: Sequence[Segment],
    scope: Sequence[ColumnElement[bool]],
    start: Cursor | None,
    *,
    backwards: bool,
    limit: int,
) -> list[Found]:
    """Studies from a place on, nearest first; segment by segment until there are enough."""
    numbers = list(range(len(segments)))
    if start is not None:
        numbers = numbers[: start.segment + 1] if backwards else numbers[start.segment :]
    found: list[Found] = []
    for number in reversed(numbers) if backwards else numbers:
        if len(found) == limit:
            break
        query = segments[number].walk(backwards=backwards).where(*scope).limit(limit - len(found))
        if start is not None and number == start.segment:
            query = query.where(segments[number].beyond(start.place, backwards=backwards))
        found += [
            Found(study_id=study_id, segment=number, place=tuple(place))
            for study_id, *place in session.execute(query)
        ]
    return found
