"""What of the received may go: the rule of I11 as queries, and the rows of a deletion.

Nothing goes before every result of every revision is confirmed where it was sent, or withdrawn for a newer
one, or a person waived that; nothing while somebody is still to look after a finding in it, or earlier
results are still to be taken back, whatever was waived. The rows stay; they say that the bytes are gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, true, update
from sqlalchemy.orm import Session

from service.errors import StudyDeletedError
from service.store import dicom_index, identities, referrals, studies
from service.store.among import among
from service.store.tables import DeliveryRow, InstanceRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import DeliveryStatus, PackState, RetractionState, State, Whereabouts

HELD, REFERRED, ARRIVING = "held", "referred", "arriving"
UNCONFIRMED, UNSENT, FAILED = "unconfirmed", "unsent", "failed"

Ages = Mapping[State, timedelta]  # after which a study in that state may go; a state that is missing: never


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A study past its age.

    Attributes
    ----------
    key : str
    state : State
    ended_at : datetime
    bytes : int
        As received.
    why : str or None
        Code of why it is kept all the same; None where it may go.
    """

    key: str
    state: State
    ended_at: datetime
    bytes: int
    why: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A study whose bytes are deleted, or are being."""

    key: str
    state: State
    bytes_are: Whereabouts
    deleted_at: datetime | None
    waived: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What is to go of one study.

    Attributes
    ----------
    key : str
    file_names : tuple of str
        Received files.
    packs : tuple of str
        Content hashes of its revisions.
    results : tuple of str
        Paths of result objects.
    bytes : int
        As received.
    deliveries : dict of str to int
        Where its results stand: the proof.
    state : State
    waived : str or None
    is_on_node : bool
        Whether received files are on the node, or were when that was decided.
    """

    key: str
    file_names: tuple[str, ...]
    packs: tuple[str, ...]
    results: tuple[str, ...]
    bytes: int
    deliveries: dict[str, int]
    state: State
    waived: str | None
    is_on_node: bool


def past_age(
    session: Session,
    ages: Ages,
    *,
    now: datetime,
    limit: int,
    may_go: bool | None = None,
    besides: Sequence[str] = (),
) -> tuple[Kept, ...]:
    """Studies past their age, oldest first, with why each may not go.

    Parameters
    ----------
    may_go : bool, optional
        Only those that may, or may not.
    besides : sequence of str
        Keys of studies that are left out until a person waives them.
    """
    wanted = true() if may_go is None else _may_go(ages, now).is_(may_go)
    size = (
        select(func.coalesce(func.sum(InstanceRow.bytes), 0))
        .where(InstanceRow.study_id == StudyRow.id, ~InstanceRow.is_deleted)
        .scalar_subquery()
    )
    rows = session.execute(
        select(
            StudyRow,
            size.label("size"),
            _has_delivery().label("sent"),
            _has_unconfirmed().label("unconfirmed"),
            referrals.has_open().label("referred"),
            _has_to_retract().label("retracts"),
        )
        .where(
            StudyRow.bytes_are == Whereabouts.HERE,
            _is_past(ages, now),
            wanted,
            or_(~among(StudyRow.key, besides), StudyRow.waived.is_not(None)),
        )
        .order_by(StudyRow.ended_at)
        .limit(limit)
    )
    return tuple(
        Kept(
            key=study.key,
            state=study.state,
            ended_at=(study.ended_at or study.last_instance_at).astimezone(UTC),
            bytes=int(found),
            why=_why(
                study, is_sent=sent, is_unconfirmed=unconfirmed, is_referred=referred, has_to_retract=retracts
            ),
        )
        for study, found, sent, unconfirmed, referred, retracts in rows
    )


def begin(session: Session, key: str, ages: Ages, *, now: datetime) -> Deletion | None:
    """Decide that a study goes; from here on nobody works with it. None where it may not, or not any more."""
    study = session.scalar(select(StudyRow).where(StudyRow.key == key).with_for_update(skip_locked=True))
    if study is None:
        return None
    # Asked behind the lock: a statement that takes it sees other tables as they were before it had it.
    if not session.scalar(select(exists().where(StudyRow.id == study.id, _may_go(ages, now)))):
        return None
    study.bytes_are, study.deleted_at = Whereabouts.DELETING, now
    files = session.execute(
        update(InstanceRow)
        .where(InstanceRow.study_id == study.id, ~InstanceRow.is_deleted)
        .values(is_deleted=True)
        .returning(InstanceRow.file_name, InstanceRow.bytes)
    )
    # One that was deleted before and came again a moment ago has no row yet that says so: it stays.
    return _deletion(session, study, {name: size for name, size in files})  # noqa: C416 - rows are no pairs


def begun(session: Session) -> tuple[Deletion, ...]:
    """Deletions that were decided and not ended: a kill came between."""
    studies = session.scalars(
        select(StudyRow).where(StudyRow.bytes_are == Whereabouts.DELETING).order_by(StudyRow.id)
    )
    return tuple(_deletion(session, study, _deleted_files(session, study)) for study in studies)


def whereabouts(session: Session, keys: Sequence[str]) -> dict[str, Whereabouts]:
    """Where the bytes of studies are, of those that have a row."""
    rows = session.execute(select(StudyRow.key, StudyRow.bytes_are).where(among(StudyRow.key, keys)))
    return {key: place for key, place in rows}  # noqa: C416 - rows are not pairs to dict()


def end(session: Session, key: str) -> bool:
    """Store that the bytes are gone; False where another had stored it."""
    study = session.scalars(select(StudyRow).where(StudyRow.key == key).with_for_update()).one()
    if study.bytes_are is not Whereabouts.DELETING:
        return False
    came_meanwhile = session.scalar(
        select(exists().where(InstanceRow.study_id == study.id, ~InstanceRow.is_deleted))
    )
    study.bytes_are = Whereabouts.HERE if came_meanwhile else Whereabouts.DELETED
    session.execute(
        update(RevisionRow)
        .where(RevisionRow.study_id == study.id, RevisionRow.pack.is_not(None))
        .values(pack=PackState.DELETED)
    )
    if not came_meanwhile:
        identities.forget(session, study.id)
    dicom_index.forget(session, study.id)
    return True


def gone(session: Session, *, limit: int) -> tuple[Gone, ...]:
    """Studies whose bytes are deleted, newest first."""
    rows = session.scalars(
        select(StudyRow)
        .where(StudyRow.bytes_are != Whereabouts.HERE)
        .order_by(StudyRow.deleted_at.desc(), StudyRow.id)
        .limit(limit)
    )
    return tuple(
        Gone(
            key=row.key,
            state=row.state,
            bytes_are=row.bytes_are,
            deleted_at=row.deleted_at.astimezone(UTC) if row.deleted_at else None,
            waived=row.waived,
        )
        for row in rows
    )


def hold(session: Session, key: str, reason: str | None) -> None:
    """Forbid any deletion of a study; None allows it again.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If it is too late.
    """
    present(session, key).hold = reason


def waive(session: Session, key: str, reason: str) -> None:
    """Allow that a study goes without every result confirmed; its age counts all the same.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If it is gone already.
    """
    present(session, key).waived = reason


def present(session: Session, key: str) -> StudyRow:
    """Row of a study whose bytes are here, for this transaction alone.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    StudyDeletedError
        If its bytes are gone.
    """
    study = studies.locked(session, key)
    if study.bytes_are is not Whereabouts.HERE:
        raise StudyDeletedError(StudyDeletedError.__doc__)
    return study


def _is_past(ages: Ages, now: datetime) -> ColumnElement[bool]:
    ended = func.greatest(StudyRow.ended_at, StudyRow.last_instance_at)
    return or_(False, *(and_(StudyRow.state == state, ended <= now - age) for state, age in ages.items()))


def _may_go(ages: Ages, now: datetime) -> ColumnElement[bool]:
    return and_(
        StudyRow.bytes_are == Whereabouts.HERE,
        StudyRow.hold.is_(None),
        ~referrals.has_open(),
        ~StudyRow.is_pending,
        ~_has_to_retract(),
        _is_past(ages, now),
        or_(
            StudyRow.waived.is_not(None),
            and_(StudyRow.state != State.FAILED, _has_delivery(), ~_has_unconfirmed()),
        ),
    )


def _why(
    study: StudyRow, *, is_sent: bool, is_unconfirmed: bool, is_referred: bool, has_to_retract: bool
) -> str | None:
    """Return the code of what `_may_go` would say no for."""
    whatever_was_waived = (
        (HELD, study.hold is not None),
        (REFERRED, is_referred),
        (ARRIVING, study.is_pending),
    )
    unless_waived = (
        (FAILED, study.state is State.FAILED),
        (UNCONFIRMED, is_unconfirmed),
        (UNSENT, not is_sent),
    )
    counts = whatever_was_waived if study.waived is not None else (*whatever_was_waived, *unless_waived)
    return next((code for code, holds in (*counts, (UNCONFIRMED, has_to_retract)) if holds), None)


def _deliveries_of_study() -> ColumnElement[bool]:
    """Join of deliveries to the study of the outer query."""
    return and_(
        ResultRow.id == DeliveryRow.result_id,
        ScoreRow.id == ResultRow.score_id,
        RevisionRow.id == ScoreRow.revision_id,
        RevisionRow.study_id == StudyRow.id,
    )


def _has_delivery() -> ColumnElement[bool]:
    was_sent = DeliveryRow.status != DeliveryStatus.WITHDRAWN
    return exists(DeliveryRow.id).where(_deliveries_of_study(), was_sent).correlate(StudyRow)


def _has_unconfirmed() -> ColumnElement[bool]:
    """Return whether a result is not where it was sent, or nobody knows; one that was withdrawn is settled.

    Delivered is as good as stored only where the destination's profile asks for no confirmation: with a
    fallback it was asked for, and did not come. What could not be taken back stands where it was sent.
    """
    is_confirmed = or_(
        DeliveryRow.status.in_((DeliveryStatus.STORED, DeliveryStatus.WITHDRAWN)),
        and_(
            DeliveryRow.status == DeliveryStatus.DELIVERED,
            DeliveryRow.ended_at.is_not(None),
            DeliveryRow.fallback.is_(None),
        ),
    )
    open_deliveries = exists(DeliveryRow.id).where(_deliveries_of_study(), ~is_confirmed).correlate(StudyRow)
    return or_(open_deliveries, _has_retraction(RetractionState.FAILED))


def _has_to_retract() -> ColumnElement[bool]:
    """Return whether a report is still to be made of an earlier one, which would go with the study."""
    return _has_retraction(RetractionState.WANTED)


def _has_retraction(state: RetractionState) -> ColumnElement[bool]:
    return (
        exists(ScoreRow.id)
        .where(ScoreRow.id == StudyRow.score_id, ScoreRow.retraction == state)
        .correlate(StudyRow)
    )


def _deleted_files(session: Session, study: StudyRow) -> dict[str, int]:
    files = session.execute(
        select(InstanceRow.file_name, InstanceRow.bytes).where(
            InstanceRow.study_id == study.id, InstanceRow.is_deleted
        )
    )
    return {name: size for name, size in files}  # noqa: C416 - rows are not pairs to dict()


def _deletion(session: Session, study: StudyRow, files: Mapping[str, int]) -> Deletion:
    packs = session.scalars(
        select(RevisionRow.content_hash).where(
            RevisionRow.study_id == study.id, RevisionRow.pack.is_not(None)
        )
    )
    results = session.scalars(
        select(ResultRow.path)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .where(RevisionRow.study_id == study.id)
    )
    statuses = session.execute(
        select(DeliveryRow.status, func.count())
        .where(_deliveries_of_study(), StudyRow.id == study.id)
        .group_by(DeliveryRow.status)
    )
    return Deletion(
        key=study.key,
        file_names=tuple(sorted(files)),
        packs=tuple(packs),
        results=tuple(results),
        bytes=sum(files.values()),
        deliveries={status.value: count for status, count in statuses},
        state=study.state,
        waived=study.waived,
        is_on_node=study.is_on_node,
    )
