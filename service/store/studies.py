"""Studies and their revisions: what the spool holds, as rows. All can be rebuilt from the spool (I1)."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from service.errors import UnknownStudyError
from service.store import flags
from service.store.among import among
from service.store.tables import InstanceRow, ResultRow, RevisionRow, ScoreRow, StudyRow
from service.study import PATIENT_CONFLICT, Priority, State, Whereabouts, move


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One instance found in the spool.

    Attributes
    ----------
    file_name : str
    sha256 : str
        Of the whole file, hexadecimal.
    bytes : int
    sop_class_uid : str
        Empty where the header cannot be read.
    is_own : bool
        One of Vigil's own results coming back: kept, never scored (I8).
    sender : str
        Calling AE title.
    received_at : datetime
    modality, description : str
        Modality, and Study Description, as the worklist shows them.
    series : str
        Pseudonym of its series.
    patient : str
        Pseudonyms of id, birth date and name, joined by dots; each empty where unstated.
    """

    file_name: str
    sha256: str
    bytes: int
    sop_class_uid: str
    is_own: bool
    sender: str
    received_at: datetime
    modality: str
    description: str
    series: str = ""
    patient: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What became of arrivals.

    Attributes
    ----------
    is_new : bool
        The study was not known.
    is_flagged : bool
        These arrivals gave the study its flag.
    """

    is_new: bool
    is_flagged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingStudy:
    """A study with instances that no revision holds yet."""

    key: str
    received_at: datetime
    last_instance_at: datetime
    senders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A study's set of instances, fixed by a completeness trigger."""

    id: int
    number: int
    content_hash: str
    priority: int


# Modalities that say what was made of a study rather than what was imaged.
_NOT_IMAGED = frozenset({"", "OT", "SR", "SEG", "PR", "KO", "DOC", "PM"})


def known_files(session: Session, keys: Sequence[str]) -> dict[str, frozenset[str]]:
    """File names of each study that have a row; not those that were deleted, which may come again."""
    names: dict[str, set[str]] = {key: set() for key in keys}
    for key, name in session.execute(
        select(StudyRow.key, InstanceRow.file_name)
        .join(InstanceRow, InstanceRow.study_id == StudyRow.id)
        .where(among(StudyRow.key, keys), ~InstanceRow.is_deleted)
    ):
        names[key].add(name)
    return {key: frozenset(found) for key, found in names.items()}


def known(session: Session, keys: Sequence[str]) -> frozenset[str]:
    """Return the studies, among those given, that have a row."""
    return frozenset(session.scalars(select(StudyRow.key).where(among(StudyRow.key, keys))))


def own_results_among(session: Session, sop_instance_uids: Sequence[str]) -> frozenset[str]:
    """Return the UIDs, among those given, of results this site has made, whatever their headers say now."""
    rows = session.scalars(
        select(ResultRow.sop_instance_uid).where(ResultRow.sop_instance_uid.in_(sop_instance_uids))
    )
    return frozenset(rows)


def known_models(session: Session) -> frozenset[str]:
    """Hashes of all models that have scored here."""
    return frozenset(session.scalars(select(ScoreRow.model_hash).distinct()))


def own_results(session: Session, key: str) -> tuple[str, ...]:
    """SOP Instance UIDs of the results made of a study."""
    rows = session.scalars(
        select(ResultRow.sop_instance_uid)
        .join(ScoreRow, ScoreRow.id == ResultRow.score_id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(StudyRow.key == key)
    )
    return tuple(rows)


def held(session: Session, key: str) -> dict[str, str]:
    """File name of each of the study's instances, our own results left out, with its series' pseudonym."""
    rows = session.execute(
        select(InstanceRow.file_name, InstanceRow.series)
        .join(StudyRow)
        .where(StudyRow.key == key, ~InstanceRow.is_own, ~InstanceRow.is_deleted)
    )
    return {name: series for name, series in rows}  # noqa: C416 - rows are not pairs to dict()


def raise_priority(session: Session, key: str, priority: int) -> bool:
    """Let a study be more urgent; return whether it was less so. Never lowers it (I12).

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    study = locked(session, key)
    if study.priority >= priority:
        return False
    study.priority = priority
    return True


def id_of(session: Session, key: str) -> int:
    """Return the number of the row of a study.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    study_id = session.scalar(select(StudyRow.id).where(StudyRow.key == key))
    if study_id is None:
        raise UnknownStudyError(UnknownStudyError.__doc__)
    return study_id


def locked(session: Session, key: str) -> StudyRow:
    """Row of a study, for this transaction alone.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    study = session.scalar(select(StudyRow).where(StudyRow.key == key).with_for_update())
    if study is None:
        raise UnknownStudyError(UnknownStudyError.__doc__)
    return study


def lock(session: Session, keys: Sequence[str]) -> None:
    """Keep some studies for this transaction alone, in the order of all who need several."""
    session.execute(
        select(StudyRow.id).where(StudyRow.key.in_(keys)).order_by(StudyRow.key).with_for_update()
    )


def register(
    session: Session, key: str, arrivals: Sequence[Arrival], *, priority: int = Priority.ROUTINE
) -> Registered:
    """Give every new instance of a study its row.

    Registering again changes nothing. A study that holds nothing but our own results gets no row.

    Parameters
    ----------
    priority : int
        Of the study, where it is new.

    Returns
    -------
    Registered
    """
    scored = [arrival for arrival in arrivals if not arrival.is_own]
    study = session.scalar(select(StudyRow).where(StudyRow.key == key).with_for_update())
    is_new = study is None
    if study is None:
        if not scored:
            return Registered(is_new=False, is_flagged=False)
        study = StudyRow(
            key=key,
            state=State.RECEIVED,
            received_at=min(arrival.received_at for arrival in scored),
            last_instance_at=min(arrival.received_at for arrival in scored),
            is_pending=False,
            modality="",
            description="",
            priority=priority,
        )
        session.add(study)
        session.flush()
    added = insert(InstanceRow)
    new = session.scalars(
        added.values([instance_columns(study.id, arrival) for arrival in arrivals])
        .on_conflict_do_update(
            index_elements=["study_id", "file_name"],
            set_={
                "sha256": added.excluded.sha256,
                "bytes": added.excluded.bytes,
                "sender": added.excluded.sender,
                "received_at": added.excluded.received_at,
                "sop_class_uid": added.excluded.sop_class_uid,
                "is_own": added.excluded.is_own,
                "series": added.excluded.series,
                "patient": added.excluded.patient,
                "is_deleted": False,
                "first_revision": None,  # what held it before has lost it: it arrives anew
            },
            where=InstanceRow.is_deleted.is_(other=True),  # one that was deleted and came again
        )
        .returning(InstanceRow.file_name)
    ).all()
    fresh = [arrival for arrival in scored if arrival.file_name in set(new)]
    if fresh:
        newest = max(fresh, key=lambda arrival: arrival.received_at)
        study.is_pending = True
        if study.bytes_are is Whereabouts.DELETED:
            study.bytes_are = Whereabouts.HERE
        study.last_instance_at = max(study.last_instance_at, newest.received_at)
        study.sender = newest.sender
        imaged = shown_of(fresh)
        if study.modality in _NOT_IMAGED:
            study.modality = imaged.modality
        study.description = study.description or imaged.description
    is_flagged = (
        study.flag != PATIENT_CONFLICT and bool(fresh) and flags.names_two_patients(session, study.id)
    )
    if is_flagged:
        study.flag = PATIENT_CONFLICT
    return Registered(is_new=is_new, is_flagged=is_flagged)


def instance_columns(study_id: int, arrival: Arrival) -> dict[str, Any]:
    """Columns of the row of an instance."""
    return {
        "study_id": study_id,
        "file_name": arrival.file_name,
        "sha256": arrival.sha256,
        "bytes": arrival.bytes,
        "sop_class_uid": arrival.sop_class_uid,
        "is_own": arrival.is_own,
        "sender": arrival.sender,
        "received_at": arrival.received_at,
        "series": arrival.series,
        "patient": arrival.patient,
    }


def pending(session: Session) -> tuple[PendingStudy, ...]:
    """Studies that wait for their quiet period, oldest first."""
    rows = session.execute(
        select(
            StudyRow.key,
            StudyRow.received_at,
            StudyRow.last_instance_at,
            func.array_agg(InstanceRow.sender.distinct()),
        )
        .join(InstanceRow, InstanceRow.study_id == StudyRow.id)
        .where(
            StudyRow.is_pending,
            StudyRow.bytes_are != Whereabouts.DELETING,  # what comes meanwhile waits for the end of it
            ~InstanceRow.is_own,
        )
        .group_by(StudyRow.id)
        .order_by(StudyRow.last_instance_at)
    )
    return tuple(
        PendingStudy(key=key, received_at=received, last_instance_at=last, senders=tuple(senders))
        for key, received, last, senders in rows
    )


def complete(session: Session, key: str, *, completed_by: str, now: datetime) -> Revision | None:
    """Fix the study's instances as a revision and move it to *complete*.

    Returns
    -------
    Revision or None
        None where the newest revision has these instances: nothing to do again.
    """
    study = session.scalars(select(StudyRow).where(StudyRow.key == key).with_for_update()).one()
    study.is_pending = False
    instances = session.scalars(
        select(InstanceRow)
        .where(InstanceRow.study_id == study.id, ~InstanceRow.is_own, ~InstanceRow.is_deleted)
        .order_by(InstanceRow.file_name)
    ).all()
    content_hash = hash_of(instances)
    hashes = session.scalars(
        select(RevisionRow.content_hash).where(RevisionRow.study_id == study.id).order_by(RevisionRow.number)
    ).all()
    number = len(hashes) + 1
    if hashes and content_hash == hashes[-1]:
        for instance in instances:  # deleted, and all there again
            instance.first_revision = instance.first_revision or len(hashes)
        return None
    if content_hash in hashes:  # deleted, and a part of it counted before the rest came again
        content_hash = hashlib.sha256(f"{content_hash} {number}".encode()).hexdigest()
    if study.state is not State.COMPLETE:  # the revision before still waits for its pack
        study.state = move(study.state, State.COMPLETE)
    study.reason, study.detail, study.ended_at = None, "", None
    study.completed_at, study.completed_by = now, completed_by
    study.waived = None  # given for the results there were
    revision = RevisionRow(
        study_id=study.id, number=number, content_hash=content_hash, completed_by=completed_by
    )
    session.add(revision)
    for instance in instances:
        instance.first_revision = instance.first_revision or revision.number
    session.flush()
    return Revision(
        id=revision.id, number=revision.number, content_hash=content_hash, priority=study.priority
    )


def hash_of(instances: Iterable[InstanceRow | Arrival]) -> str:
    """SHA-256 over names and hashes of a revision's instances, in the order of their names."""
    digest = hashlib.sha256()
    for instance in instances:
        digest.update(f"{instance.file_name} {instance.sha256}\n".encode())
    return digest.hexdigest()


def shown_of(arrivals: Sequence[Arrival]) -> Arrival:
    """Return the instance that says what a study's row shows: the first that was imaged, or the newest."""
    newest = max(arrivals, key=lambda arrival: arrival.received_at)
    return next((arrival for arrival in arrivals if arrival.modality not in _NOT_IMAGED), newest)
