"""The worklist as plain queries for a screen.

What Vigil could not judge stands above what it ranked (I7). Where a study stands is kept beside it by
PostgreSQL (migration 0007): its band, and the current revision's newest score, which is what counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from service.access import Masking
from service.store import changes, cursors, pages
from service.store.among import among
from service.store.cursors import Cursor
from service.store.order import EVERYTHING, WorklistQuery, conditions, segments, tier_of
from service.store.rows import Listing, WorklistRow, rows_of
from service.store.tables import StudyRow
from service.study import LONGEST_UNREAD_S, Band, State

FEW = 2000  # studies that are looked up at once
MOST_COUNTED = 10_000  # of a filter; to count more costs more than the page itself
KEY_PATTERN = "^[a-z2-7]{20}$"  # a study's pseudonym: 20 characters of base32, lower case


@dataclass(frozen=True, slots=True, kw_only=True)
class Worklist:
    """A page of the list.

    Attributes
    ----------
    rows : tuple of WorklistRow
    total : int
        Studies that the query is about, when its first page was read.
    is_total_exact : bool
        False: there are more, which nobody counted.
    counts : dict of State to int
        All studies by state, every state named.
    next, previous : str or None
        Cursors of the pages after and before this one.
    at : datetime
        When who waits too long was decided, for all pages of one cursor.
    event : int
        Newest change notice before this page was read.
    """

    rows: tuple[WorklistRow, ...]
    total: int
    is_total_exact: bool
    counts: dict[State, int]
    next: str | None
    previous: str | None
    at: datetime
    event: int


def worklist(
    session: Session,
    query: WorklistQuery = EVERYTHING,
    *,
    cursor: str | None = None,
    limit: int = 200,
    longest_unread_s: float = LONGEST_UNREAD_S,
    masking: Masking = Masking.NONE,
) -> Worklist:
    """Studies in the order a person should look at them.

    Parameters
    ----------
    session : Session
    query : WorklistQuery
    cursor : str, optional
        Of a page before; unset: the first page.
    limit : int
    longest_unread_s : float
        Seconds after which an unseen study is overdue.
    masking : Masking
        How much of an identity each row shows.

    Raises
    ------
    CursorError
        If the cursor was not made here, or for another query.
    """
    now = datetime.now(UTC)
    event = changes.newest(session)  # before the rows: a change in between is told twice rather than never
    start = cursors.unseal(session, cursor, query, longest_unread_s, now) if cursor else None
    at = start.at if start else now
    listing = Listing(at=at, longest_unread_s=longest_unread_s, masking=masking, sort=query.sort)
    counts = _counts(session)
    scope, total = _scope(session, query, counts, start)
    page = pages.turn(session, segments(query, listing.cutoff), scope, start, at=at, limit=limit, total=total)
    is_total_exact = query.is_everything or total <= MOST_COUNTED
    seal = partial(cursors.seal, session, query=query, longest_unread_s=longest_unread_s)
    ids = [found.study_id for found in page.found]
    return Worklist(
        rows=rows_of(session, ids, listing, first_rank=page.ranked_before + 1),
        total=total if is_total_exact else MOST_COUNTED,
        is_total_exact=is_total_exact,
        counts=counts,
        next=seal(page.next) if page.next else None,
        previous=seal(page.previous) if page.previous else None,
        at=at,
        event=event,
    )


def worklist_row(
    session: Session,
    key: str,
    *,
    longest_unread_s: float = LONGEST_UNREAD_S,
    masking: Masking = Masking.NONE,
) -> WorklistRow | None:
    """One study as it stands on the whole list, with its rank there; None where nobody knows the key."""
    study = session.scalar(select(StudyRow).where(StudyRow.key == key))
    if study is None:
        return None
    listing = Listing(at=datetime.now(UTC), longest_unread_s=longest_unread_s, masking=masking)
    rank = _rank(session, study, listing.cutoff) if study.band == Band.RANKED else 0
    return rows_of(session, [study.id], listing, first_rank=rank)[0]


def count_band(session: Session, band: Band) -> int:
    """Return how many studies a band holds: no filter changes that."""
    counted = select(func.count()).select_from(StudyRow).where(StudyRow.band == band)
    return session.scalar(counted) or 0


def _counts(session: Session) -> dict[State, int]:
    counted = session.execute(select(StudyRow.state, func.count()).group_by(StudyRow.state))
    return dict.fromkeys(State, 0) | dict(counted.all())


def _scope(
    session: Session, query: WorklistQuery, counts: Mapping[State, int], start: Cursor | None
) -> tuple[Sequence[ColumnElement[bool]], int]:
    """Conditions of the studies that are wanted, and how many there are: `MOST_COUNTED` + 1 is more.

    Few are looked up once: each segment would search all of its own for them. Many are counted for the first
    page, and its cursors remember it.
    """
    wanted = conditions(query)
    if not wanted:
        return (), sum(counts.values())
    if start is not None and start.total > FEW:
        return wanted, start.total
    few = session.scalars(select(StudyRow.id).where(*wanted).limit(FEW + 1)).all()
    if len(few) <= FEW:
        return (among(StudyRow.id, few),), len(few)
    some = select(StudyRow.id).where(*wanted).limit(MOST_COUNTED + 1).subquery()
    return wanted, session.scalar(select(func.count()).select_from(some)) or 0


def _rank(session: Session, study: StudyRow, cutoff: datetime) -> int:
    """Position of a ranked study on the whole list, from 1."""
    before: list[ColumnElement[bool]] = []
    for segment in segments(WorklistQuery(band=Band.RANKED), cutoff):
        if segment.tier is tier_of(study, cutoff):
            found = session.execute(segment.walk().where(StudyRow.id == study.id)).one()
            before.append(and_(segment.holds, segment.beyond(found[1:], backwards=True)))
            break
        before.append(segment.holds)
    return 1 + (session.scalar(select(func.count()).select_from(StudyRow).where(or_(*before))) or 0)
