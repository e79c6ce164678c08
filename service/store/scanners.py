"""What the model said of the studies of each scanner: how many there are, and what a reference is made of."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.documents import ReferenceStudy
from models.groups import Group
from service.store import feedback
from service.store.among import among
from service.store.tables import InstanceRow, ScoreRow, StudyRow
from service.study import Band, Verdict, Whereabouts

# A reader found something, or the model was given what it is not made for: no normals. Whoever leaves out by
# score instead would leave out normals too, and flag more of those to come than it says.
FINDINGS = frozenset(
    {Verdict.CONFIRMED_FINDING, Verdict.OTHER_CONDITION, Verdict.EXTRACTION_FAILURE, Verdict.WRONG_STUDY}
)
SCORED = (Band.RANKED, Band.UNCALIBRATED)
SEVERAL = 8  # Studies of one person that are looked through for the next person.


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCount:
    """Studies of one narrowest group whose newest score counts.

    Attributes
    ----------
    group : Group
    ranked, uncalibrated : int
    newest_at : datetime
        When the last of them came.
    """

    group: Group
    ranked: int
    uncalibrated: int
    newest_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Studies of a reference, and who was left out of it.

    Attributes
    ----------
    studies : tuple of ReferenceStudy
        In the order they came, one a person.
    first_at, last_at : datetime or None
        When the first and the last of them came.
    same_person, findings : int
        Left out.
    """

    studies: tuple[ReferenceStudy, ...]
    first_at: datetime | None
    last_at: datetime | None
    same_person: int
    findings: int


def count_groups(
    session: Session, model_sha256: str, *, since: datetime, bands: Sequence[Band] = SCORED
) -> tuple[GroupCount, ...]:
    """Studies that came since a time and that this model scored, by narrowest group.

    Parameters
    ----------
    model_sha256 : str
    since : datetime
    bands : sequence of Band
        Where they stand on the list.
    """
    is_ranked = StudyRow.band == Band.RANKED
    rows = session.execute(
        select(
            ScoreRow.group_key,
            func.count().filter(is_ranked),
            func.count().filter(~is_ranked),
            func.max(StudyRow.received_at),
        )
        .join(ScoreRow, ScoreRow.id == StudyRow.score_id)
        .where(
            StudyRow.band.in_(bands),
            StudyRow.received_at >= since,
            ScoreRow.model_hash == model_sha256,
            ScoreRow.group_key.is_not(None),
        )
        .group_by(ScoreRow.group_key)
        .order_by(ScoreRow.group_key)
    )
    return tuple(
        GroupCount(
            group=Group.model_validate_json(str(key)),
            ranked=ranked,
            uncalibrated=uncalibrated,
            newest_at=newest_at.astimezone(UTC),
        )
        for key, ranked, uncalibrated, newest_at in rows
    )


def choose(
    session: Session,
    model_sha256: str,
    *,
    most: int,
    bands: Sequence[Band],
    groups: Collection[Group] | None = None,
    received_from: datetime | None = None,
    received_to: datetime | None = None,
) -> Chosen:
    """First studies in the order they came, one a person; those with a finding of a reader are left out.

    Parameters
    ----------
    model_sha256 : str
        Who scored them.
    most : int
        Studies that are wanted.
    bands : sequence of Band
        Where they stand on the list.
    groups : collection of Group, optional
        Narrowest groups they are of; None: any.
    received_from, received_to : datetime, optional
        From the first, before the second.
    """
    person = (
        select(func.min(InstanceRow.patient))
        .where(InstanceRow.study_id == StudyRow.id, ~InstanceRow.is_own, InstanceRow.patient != "")
        .scalar_subquery()
    )
    query = (
        select(
            StudyRow.id,
            StudyRow.received_at,
            ScoreRow.group_key,
            ScoreRow.study_score,
            ScoreRow.peak,
            ScoreRow.looks,
            person,
        )
        .join(ScoreRow, ScoreRow.id == StudyRow.score_id)
        .where(
            StudyRow.band.in_(bands),
            ScoreRow.model_hash == model_sha256,
            ScoreRow.study_score.is_not(None),
            ScoreRow.group_key.is_not(None),
        )
        .order_by(StudyRow.received_at, StudyRow.id)
        .limit(SEVERAL * most)
    )
    if groups is not None:
        query = query.where(among(ScoreRow.group_key, [group.key for group in groups]))
    if received_from is not None:
        query = query.where(StudyRow.received_at >= received_from)
    if received_to is not None:
        query = query.where(StudyRow.received_at < received_to)
    rows = session.execute(query).all()
    verdicts = feedback.newest_verdicts(session, [row[0] for row in rows])
    found: list[ReferenceStudy] = []
    times: list[datetime] = []
    persons: set[str] = set()
    same_person = findings = 0
    for study_id, received_at, key, score, peak, looks, who in rows:
        if len(found) == most:
            break
        if verdicts.get(study_id) in FINDINGS:
            findings += 1
        elif who in persons:
            same_person += 1
        else:
            persons |= {who} if who else set()
            times.append(received_at.astimezone(UTC))
            found.append(
                ReferenceStudy(group=Group.model_validate_json(key), score=score, peak=peak, looks=looks)
            )
    return Chosen(
        studies=tuple(found),
        first_at=times[0] if times else None,
        last_at=times[-1] if times else None,
        same_person=same_person,
        findings=findings,
    )


def uncalibrated(
    session: Session, model_sha256: str, *, groups: Collection[Group], most: int
) -> tuple[str, ...]:
    """Keys of studies of these groups with a raw score of this model and no percentile, oldest first."""
    return tuple(
        session.scalars(
            select(StudyRow.key)
            .join(ScoreRow, ScoreRow.id == StudyRow.score_id)
            .where(
                StudyRow.band == Band.UNCALIBRATED,
                ScoreRow.model_hash == model_sha256,
                among(ScoreRow.group_key, [group.key for group in groups]),
                StudyRow.bytes_are == Whereabouts.HERE,
            )
            .order_by(StudyRow.received_at, StudyRow.id)
            .limit(most)
        )
    )
