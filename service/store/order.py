"""In which order studies stand on the list, as segments that are index scans each.

A list is a sequence of segments. Within one, studies are ordered by columns that do not depend on the clock;
which segment an unseen study is in depends on it, by the time `cutoff` before which who came is overdue. All
pages of one cursor use the same cutoff, so nothing moves between segments while somebody turns them.

Order by triage, within each band (the bands never change places, I7):

1. STAT that is overdue, first come first; then the other STAT
2. what else is overdue, first come first: only STAT passes it, as in the queue (`service.study.OVERDUE`).
   Screening never is: thousands that were all asked for at once must not stand before what comes today
3. urgent, routine, screening
4. what a reader has seen as it stands, newest first: it needs nobody at the moment, but it leaves neither the
   list nor its band, for somebody else may look for it

Where nothing else is said: lowest percentile first, then the tail estimate where the reference has one, then
highest raw score, then first come. Uncalibrated studies thereby stand with the highest raw score first, and
studies without numbers, unjudged and pending, in order of arrival.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, and_, case, func, literal, literal_column, select, tuple_

from service.store.tables import StudyRow
from service.study import Band, Priority, State, Tier


class Sort(StrEnum):
    """Order within a band; the bands themselves never change places (I7)."""

    TRIAGE = "triage"  # STAT, overdue, urgent, ..., by percentile; what a reader has seen is last
    PERCENTILE = "percentile"  # most unusual first, whatever the priority
    OLDEST = "received"  # first come, first
    NEWEST = "-received"


_FRESH = {
    Tier.STAT: Priority.STAT,
    Tier.URGENT: Priority.URGENT,
    Tier.ROUTINE: Priority.ROUTINE,
    Tier.SCREENING: Priority.SCREENING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistQuery:
    """Which studies, in which order. What is None does not narrow.

    Attributes
    ----------
    band, state, priority
        Where a study stands.
    modality, sender : str or None
        As sent, in full.
    model : str or None
        Name of the model whose score counts.
    received_from, received_to : datetime or None
        From the first, before the second.
    percentile_below : float or None
        Ranked studies below this percentile alone.
    seen : bool or None
        Whether a reader has seen it as it stands.
    assigned_to : str or None
        Name of the account that has claimed it; empty: nobody.
    text : str or None
        Part of description, modality or sender, in any case.
    sort : Sort
    """

    band: Band | None = None
    state: State | None = None
    modality: str | None = None
    sender: str | None = None
    priority: Priority | None = None
    model: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None
    percentile_below: float | None = None
    seen: bool | None = None
    assigned_to: str | None = None
    text: str | None = None
    sort: Sort = Sort.TRIAGE

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out, whatever the order."""
        return replace(self, sort=Sort.TRIAGE) == EVERYTHING


EVERYTHING = WorklistQuery()


# Literals, not parameters: PostgreSQL must see at once that these are the expressions of its indexes.
PERCENTILE = "coalesce({study}.p_value, 0)"
_BY_NUMBERS = (
    literal_column(PERCENTILE.format(study="study"), Float()),
    literal_column("coalesce(study.tail, study.p_value, 0)", Float()),
    literal_column("coalesce(-study.study_score, 0)", Float()),
    StudyRow.received_at,
    StudyRow.id,
)
_BY_ARRIVAL = (StudyRow.received_at, StudyRow.id)
_BY_LAST_SEEN = (StudyRow.seen_at, StudyRow.id)
_IS_STAT: ColumnElement[bool] = literal_column(f"(study.priority >= {int(Priority.STAT)})")
_MAY_BE_OVERDUE: ColumnElement[bool] = literal_column(f"(study.priority > {int(Priority.SCREENING)})")
_UNSEEN = StudyRow.seen_at.is_(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the list that one index holds in order.

    Attributes
    ----------
    band : Band
    conditions : sequence
        Which studies stand in it, the band left out.
    keys : sequence
        Columns of their order; the last one is unique.
    tier : Tier or None
        None: the whole band, where the order is not that of triage.
    is_descending : bool
    """

    band: Band
    conditions: Sequence[ColumnElement[bool]]
    keys: Sequence[Any]
    tier: Tier | None = None
    is_descending: bool = False

    @property
    def holds(self) -> ColumnElement[bool]:
        """Whether a study stands in it."""
        return and_(literal_column("study.band") == literal_column(str(int(self.band))), *self.conditions)

    def beyond(self, place: Sequence[Any], *, backwards: bool) -> ColumnElement[bool]:
        """Whether a study stands after a place, or before it."""
        values = (literal(value, key.type) for key, value in zip(self.keys, place, strict=True))
        columns, boundary = tuple_(*self.keys), tuple_(*values)
        return columns < boundary if self.is_descending is not backwards else columns > boundary

    def walk(self, *, backwards: bool = False) -> Select[Any]:
        """Ids and places of its studies, in order."""
        falls = self.is_descending is not backwards
        order = [key.desc() if falls else key.asc() for key in self.keys]
        return (
            select(StudyRow.id, *(key.label(f"key_{n}") for n, key in enumerate(self.keys)))
            .where(self.holds)
            .order_by(*order)
        )


def segments(query: WorklistQuery, cutoff: datetime) -> tuple[Segment, ...]:
    """Parts of the list a query is about, from the top.

    Parameters
    ----------
    query : WorklistQuery
    cutoff : datetime
        Who came by then and is unseen is overdue.
    """
    bands = [band for band in Band if query.band in {None, band} and _may_hold(band, query)]
    if query.sort is Sort.TRIAGE:
        tiers = [tier for tier in Tier if _may_stand(tier, query)]
        return tuple(_tier(band, tier, cutoff) for band in bands for tier in tiers)
    keys = _BY_NUMBERS if query.sort is Sort.PERCENTILE else _BY_ARRIVAL
    return tuple(
        Segment(band=band, conditions=(), keys=keys, is_descending=query.sort is Sort.NEWEST)
        for band in bands
    )


def _may_hold(band: Band, query: WorklistQuery) -> bool:
    if query.percentile_below is not None and band is not Band.RANKED:
        return False
    if query.state is None or band is Band.UNJUDGED:  # a parked study of any state may stand there
        return True
    if band is Band.UNCALIBRATED:
        return query.state is State.NOT_ASSESSABLE
    return (query.state is State.SCORED) is (band is Band.RANKED)


def _may_stand(tier: Tier, query: WorklistQuery) -> bool:
    if query.seen is not None and query.seen is not (tier is Tier.SEEN):
        return False
    if query.priority is None or tier is Tier.SEEN:
        return True
    if tier in {Tier.STAT_OVERDUE, Tier.OVERDUE}:
        return query.priority is not Priority.SCREENING and (query.priority is Priority.STAT) is (
            tier is Tier.STAT_OVERDUE
        )
    return _FRESH[tier] is query.priority


def _tier(band: Band, tier: Tier, cutoff: datetime) -> Segment:
    if tier is Tier.SEEN:
        seen = (StudyRow.seen_at.is_not(None),)
        return Segment(band=band, tier=tier, conditions=seen, keys=_BY_LAST_SEEN, is_descending=True)
    if tier in _FRESH:
        priority = literal_column("study.priority") == literal_column(str(int(_FRESH[tier])))
        is_young = () if tier is Tier.SCREENING else (StudyRow.received_at > cutoff,)
        fresh = (_UNSEEN, priority, *is_young)
        return Segment(band=band, tier=tier, conditions=fresh, keys=_BY_NUMBERS)
    is_stat = _IS_STAT if tier is Tier.STAT_OVERDUE else ~_IS_STAT
    overdue = (_UNSEEN, _MAY_BE_OVERDUE, is_stat, StudyRow.received_at <= cutoff)
    return Segment(band=band, tier=tier, conditions=overdue, keys=_BY_ARRIVAL)


def by_triage(cutoff: datetime) -> tuple[Any, ...]:
    """Keys that put studies of any band and tier into the order of triage, where no index need serve.

    Parameters
    ----------
    cutoff : datetime
        As for `segments`.
    """
    is_late = and_(_MAY_BE_OVERDUE, StudyRow.received_at <= cutoff)
    tier = case(
        (~_UNSEEN, int(Tier.SEEN)),
        (and_(is_late, _IS_STAT), int(Tier.STAT_OVERDUE)),
        (is_late, int(Tier.OVERDUE)),
        *((StudyRow.priority == priority, int(tier)) for tier, priority in _FRESH.items()),
    )
    came = case((is_late, StudyRow.received_at))  # of those that are late it decides, and of no other
    # The codes of the bands are not in their order.
    place = case({band.value: place for place, band in enumerate(Band)}, value=StudyRow.band)
    return (place, tier, StudyRow.seen_at.desc().nulls_last(), came, *_BY_NUMBERS)


def tier_of(study: StudyRow, cutoff: datetime) -> Tier:
    """Part of its band in which a study stands in the order of triage."""
    if study.seen_at is not None:
        return Tier.SEEN
    is_stat = study.priority >= Priority.STAT
    if study.received_at <= cutoff and study.priority > Priority.SCREENING:
        return Tier.STAT_OVERDUE if is_stat else Tier.OVERDUE
    return next(tier for tier, priority in _FRESH.items() if study.priority == priority)


def conditions(query: WorklistQuery) -> tuple[ColumnElement[bool], ...]:
    """Build what a study must fulfil to be listed, beside the band."""
    return tuple(_conditions(query))


def _conditions(query: WorklistQuery) -> Iterator[ColumnElement[bool]]:
    study = StudyRow
    for column, value in (
        (study.band, query.band),
        (study.state, query.state),
        (study.modality, query.modality),
        (study.sender, query.sender),
        (study.priority, query.priority),
        (study.model_name, query.model),
    ):
        if value is not None:
            yield column == value
    if query.received_from is not None:
        yield study.received_at >= query.received_from
    if query.received_to is not None:
        yield study.received_at < query.received_to
    if query.percentile_below is not None:
        yield study.band == Band.RANKED  # with it, the index of percentiles serves
        yield _BY_NUMBERS[0] < query.percentile_below / 100
    if query.seen is not None:
        yield study.seen_at.is_not(None) if query.seen else _UNSEEN
    if query.assigned_to is not None:
        yield func.coalesce(study.assigned_to, "") == query.assigned_to
    if query.text:
        said = func.lower(func.concat_ws(" ", study.description, study.modality, study.sender))
        yield func.strpos(said, func.lower(query.text)) > 0
