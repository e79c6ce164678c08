"""How many of everything there are: what metrics and readiness ask."""

from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models.errors import Reason
from service.store.tables import AuditRow, DeliveryRow, HeartbeatRow, ParkedDestinationRow, ScoreRow, StudyRow
from service.study import DeliveryStatus, Pool, RetractionState, State, Whereabouts

UNKNOWN = "unknown"  # pool of a worker whose release does not say it
NODE = "node"  # the heartbeat of whoever receives
API = "api"  # and of whoever shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Rows by state; every state is named, so that a series never vanishes.

    Attributes
    ----------
    studies, scores : dict of State to int
    deliveries : dict of DeliveryStatus to int
    bytes_are : dict of Whereabouts to int
    parked : int
        Studies that a person put aside, of any state.
    parked_destinations : int
        Destinations to which nothing is sent until a person lets them go.
    not_assessable : dict of str to int
        Studies by the code of why; every code is named.
    not_retracted : int
        Studies whose earlier results hold no longer and could not be taken back; a person tells the archive,
        and then waives the study.
    audit_number : int
        Number of the newest audit row. Kept elsewhere, it shows a cut tail.
    """

    studies: dict[State, int]
    scores: dict[State, int]
    deliveries: dict[DeliveryStatus, int]
    bytes_are: dict[Whereabouts, int]
    parked: int
    parked_destinations: int
    not_assessable: dict[str, int]
    not_retracted: int
    audit_number: int


def take_census(session: Session) -> Census:
    """Count, in nine queries."""
    studies = session.execute(select(StudyRow.state, func.count()).group_by(StudyRow.state))
    scores = session.execute(select(ScoreRow.state, func.count()).group_by(ScoreRow.state))
    deliveries = session.execute(select(DeliveryRow.status, func.count()).group_by(DeliveryRow.status))
    bytes_are = session.execute(select(StudyRow.bytes_are, func.count()).group_by(StudyRow.bytes_are))
    reasons = session.execute(
        select(StudyRow.reason, func.count())
        .where(StudyRow.state == State.NOT_ASSESSABLE)
        .group_by(StudyRow.reason)
    )
    return Census(
        studies=dict.fromkeys(State, 0) | dict(studies.all()),
        scores=dict.fromkeys(State, 0) | dict(scores.all()),
        deliveries=dict.fromkeys(DeliveryStatus, 0) | dict(deliveries.all()),
        bytes_are=dict.fromkeys(Whereabouts, 0) | dict(bytes_are.all()),
        parked=session.scalar(select(func.count()).where(StudyRow.parked_at.is_not(None))) or 0,
        parked_destinations=session.scalar(select(func.count()).select_from(ParkedDestinationRow)) or 0,
        not_assessable={reason.value: 0 for reason in Reason}
        | {str(reason): number for reason, number in reasons},
        not_retracted=session.scalar(
            select(func.count())
            .join_from(StudyRow, ScoreRow, ScoreRow.id == StudyRow.score_id)
            .where(ScoreRow.retraction == RetractionState.FAILED, StudyRow.waived.is_(None))
        )
        or 0,
        audit_number=session.scalar(select(func.max(AuditRow.number))) or 0,
    )


def beat(session: Session, name: str) -> None:
    """Note that a loop has just looked."""
    session.execute(
        insert(HeartbeatRow)
        .values(name=name, at=func.now())
        .on_conflict_do_update(index_elements=["name"], set_={"at": func.now()})
    )


def beats(session: Session) -> dict[str, float]:
    """Seconds since each loop looked last, by its name."""
    age_s = func.extract("epoch", func.now() - HeartbeatRow.at)
    return {name: float(age) for name, age in session.execute(select(HeartbeatRow.name, age_s))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Worker processes with a fresh heartbeat.

    Attributes
    ----------
    processes : int
        All of them.
    by_pool : dict of str to int
        By what they work for, every pool named; one that serves two counts in both. `UNKNOWN`: of a release
        that does not say.
    """

    processes: int
    by_pool: dict[str, int]

    def of(self, pool: Pool) -> int:
        """How many may work for a pool: of one that does not say, nobody knows better."""
        return self.by_pool[pool.value] + self.by_pool[UNKNOWN]


def live_workers(session: Session, *, stalled_s: float) -> Workers:
    """Worker processes whose heartbeat is younger than `stalled_s` seconds."""
    rows = session.scalars(
        text(
            "SELECT vigil_pools FROM procrastinate_workers"
            " WHERE last_heartbeat > now() - make_interval(secs => :stalled)"
        ),
        {"stalled": stalled_s},
    ).all()
    by_pool = dict.fromkeys([*(pool.value for pool in Pool), UNKNOWN], 0)
    for pools in rows:
        for pool in (pools or UNKNOWN).split(","):
            by_pool[pool] = by_pool.get(pool, 0) + 1
    return Workers(processes=len(rows), by_pool=by_pool)
