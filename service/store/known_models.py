"""Models that studies were given to here."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.store.tables import ScoreRow
from service.study import State

MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One model by its hash.

    Attributes
    ----------
    sha256 : str
    name, version : str
        Empty until a worker has said so.
    scores : dict of State to int
        Its scores by state.
    first_at, last_at : datetime
        When it was first and last given a study.
    """

    sha256: str
    name: str
    version: str
    scores: dict[State, int]
    first_at: datetime
    last_at: datetime


def known_models(session: Session) -> tuple[KnownModel, ...]:
    """Return every model that was given a study, the one used last first."""
    counted = session.execute(
        select(
            ScoreRow.model_hash,
            func.max(ScoreRow.model_name),
            func.max(ScoreRow.model_version),
            func.min(ScoreRow.run_at),
            func.max(ScoreRow.run_at),
            *(func.count().filter(ScoreRow.state == state) for state in State),
        )
        .group_by(ScoreRow.model_hash)
        .order_by(func.max(ScoreRow.run_at).desc())
        .limit(MOST)
    )
    return tuple(
        KnownModel(
            sha256=sha256,
            name=name,
            version=version,
            scores=dict(zip(State, counts, strict=True)),
            first_at=first.astimezone(UTC),
            last_at=last.astimezone(UTC),
        )
        for sha256, name, version, first, last, *counts in counted
    )
