"""Packs of revisions: which are to be made, and what became of them. Without one the spool is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session, aliased

from service.store.studies import Revision
from service.store.tables import InstanceRow, RevisionRow, ScoreRow, StudyRow
from service.study import CANCELLED, ENDED, PackState, State, Whereabouts

SUPERSEDED = "superseded"  # reason of a pack that a newer revision made pointless


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedInstance:
    """One instance of a revision, as its row has it.

    Attributes
    ----------
    file_name : str
    sha256 : str
        Of the data set; empty where the file was damaged before it had a row.
    """

    file_name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPack:
    """A revision whose pack is to be made; a cancelled one is to be ended instead."""

    revision: Revision
    study_key: str
    completed_by: str
    is_cancelled: bool
    instances: tuple[PackedInstance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFacts:
    """What a confirmed pack must be: a worker believes nothing else."""

    sha256: str
    bytes: int


def facts(revision: RevisionRow) -> PackFacts | None:
    """What a worker believes of a revision's pack; None where the study is read from the spool."""
    if revision.pack is None or revision.pack_sha256 is None or revision.pack_bytes is None:
        return None
    return PackFacts(sha256=revision.pack_sha256, bytes=revision.pack_bytes)


def want(session: Session, revision_id: int) -> None:
    """Let the pack of a new revision be made; packs of older ones that wait are not needed any more."""
    study_id = session.scalars(select(RevisionRow.study_id).where(RevisionRow.id == revision_id)).one()
    session.execute(
        update(RevisionRow)
        .where(RevisionRow.study_id == study_id, RevisionRow.pack == PackState.WANTED)
        .values(pack=PackState.LOST, pack_reason=SUPERSEDED)
    )
    session.execute(
        update(RevisionRow)
        .where(RevisionRow.id == revision_id)
        .values(pack=PackState.WANTED, pack_reason=None)
    )


def wanted(session: Session, *, limit: int, besides: Sequence[int] = ()) -> tuple[WantedPack, ...]:
    """Packs to be made, most urgent first; those of some revisions left out."""
    rows = session.execute(
        select(RevisionRow, StudyRow.key, StudyRow.priority)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(RevisionRow.pack == PackState.WANTED, RevisionRow.id.not_in(besides))
        .order_by(StudyRow.priority.desc(), RevisionRow.id)
        .limit(limit)
    ).all()
    return tuple(
        WantedPack(
            revision=Revision(id=row.id, number=row.number, content_hash=row.content_hash, priority=priority),
            study_key=key,
            completed_by=row.completed_by,
            is_cancelled=row.pack_reason == CANCELLED,
            instances=_instances(session, row),
        )
        for row, key, priority in rows
    )


def waiting(session: Session) -> int:
    """How many packs are to be made."""
    return session.scalar(select(func.count()).where(RevisionRow.pack == PackState.WANTED)) or 0


def confirm(session: Session, revision_id: int, *, sha256: str, size: int) -> tuple[int, ...] | None:
    """Store that a pack was written and read back.

    Returns
    -------
    tuple of int or None
        Queued scores of the revision, whose jobs gave up for want of the pack. None where the pack is not
        wanted any more: another was first, the study was completed anew, or a person cancelled it.
    """
    row = _locked(session, revision_id)
    if not _is_to_be_made(row):
        return None
    row.pack, row.pack_sha256, row.pack_bytes, row.pack_reason = PackState.CONFIRMED, sha256, size, None
    return _queued_scores(session, revision_id)


def release(session: Session, revision_id: int) -> tuple[int, ...] | None:
    """Let a revision be read from the spool after all; returns what `confirm` does."""
    row = _locked(session, revision_id)
    if not _is_to_be_made(row):
        return None
    row.pack, row.pack_reason = None, None
    return _queued_scores(session, revision_id)


def refuse(session: Session, revision_id: int, *, sha256: str, reason: str) -> bool:
    """Have a pack made again that a worker could not use; False where it was made again meanwhile."""
    row = _locked(session, revision_id)
    if row.pack is not PackState.CONFIRMED or row.pack_sha256 != sha256:
        return False
    row.pack, row.pack_reason = PackState.WANTED, reason
    return True


def lose(session: Session, revision_id: int, *, reason: str) -> tuple[int, ...] | None:
    """Store that a pack cannot be made; return the revision's queued scores, None where it is not wanted."""
    row = _locked(session, revision_id)
    if row.pack is not PackState.WANTED:
        return None
    row.pack, row.pack_reason = PackState.LOST, row.pack_reason or reason
    return _queued_scores(session, revision_id)


def cancel(session: Session, study_id: int) -> tuple[int, ...]:
    """Let a study's packs that wait not be made, where no score says that it was cancelled; return which.

    Who makes packs ends the study.
    """
    rows = session.scalars(
        update(RevisionRow)
        .where(
            RevisionRow.study_id == study_id,
            RevisionRow.pack == PackState.WANTED,
            RevisionRow.pack_reason.is_distinct_from(CANCELLED),
            ~exists().where(ScoreRow.revision_id == RevisionRow.id),
        )
        .values(pack_reason=CANCELLED)
        .returning(RevisionRow.id)
    )
    return tuple(rows)


def is_confirmed(session: Session, revision_id: int) -> bool:
    """Whether a revision has a pack."""
    return _locked(session, revision_id).pack is PackState.CONFIRMED


def has_score(session: Session, revision_id: int) -> bool:
    """Whether a revision was queued before, however that ended."""
    return session.scalar(select(exists().where(ScoreRow.revision_id == revision_id))) or False


def older(session: Session, revision_id: int) -> tuple[str, int] | None:
    """Content hash and size of the newest confirmed pack of an earlier revision of the same study."""
    this = session.get_one(RevisionRow, revision_id)
    row = session.scalar(
        select(RevisionRow)
        .where(
            RevisionRow.study_id == this.study_id,
            RevisionRow.number < this.number,
            RevisionRow.pack == PackState.CONFIRMED,
        )
        .order_by(RevisionRow.number.desc())
        .limit(1)
    )
    if row is None or row.pack_bytes is None:
        return None
    return row.content_hash, row.pack_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DoublyKept:
    """An ended study whose received files are on the node although its pack is confirmed."""

    revision_id: int
    study_key: str
    content_hash: str
    sha256: str
    bytes: int
    instances: tuple[PackedInstance, ...]


def doubly_kept(session: Session, *, ended_before: datetime, limit: int) -> tuple[DoublyKept, ...]:
    """Studies whose received files may leave the node, oldest first."""
    other = aliased(RevisionRow)
    newest = select(func.max(other.number)).where(other.study_id == StudyRow.id).scalar_subquery()
    rows = session.execute(
        select(RevisionRow, StudyRow.key)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(
            StudyRow.is_on_node,
            ~StudyRow.is_pending,
            StudyRow.bytes_are == Whereabouts.HERE,
            StudyRow.state.in_(ENDED),
            func.greatest(StudyRow.ended_at, StudyRow.last_instance_at) <= ended_before,
            RevisionRow.number == newest,
            RevisionRow.pack == PackState.CONFIRMED,
        )
        .order_by(StudyRow.ended_at)
        .limit(limit)
    ).all()
    return tuple(
        DoublyKept(
            revision_id=row.id,
            study_key=key,
            content_hash=row.content_hash,
            sha256=row.pack_sha256 or "",
            bytes=row.pack_bytes or 0,
            instances=_instances(session, row),
        )
        for row, key in rows
    )


def leave_node(session: Session, study_key: str, content_hash: str) -> bool:
    """Store that the received files leave the node; False where the study changed meanwhile."""
    study = session.scalars(select(StudyRow).where(StudyRow.key == study_key).with_for_update()).one()
    newest = session.scalar(
        select(RevisionRow)
        .where(RevisionRow.study_id == study.id)
        .order_by(RevisionRow.number.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    )
    is_unchanged = (
        newest is not None
        and newest.content_hash == content_hash
        and newest.pack is PackState.CONFIRMED
        and not study.is_pending
        and study.bytes_are is Whereabouts.HERE
    )
    if is_unchanged:
        study.is_on_node = False
    return is_unchanged


def came_again(session: Session, study_key: str) -> None:
    """Store that there are received files of a study on the node again."""
    session.execute(
        update(StudyRow).where(StudyRow.key == study_key, ~StudyRow.is_on_node).values(is_on_node=True)
    )


def outdated(session: Session, study_key: str) -> tuple[tuple[int, str], ...]:
    """Id and content hash of revisions whose packs a confirmed pack of a newer revision replaced."""
    of_study = select(RevisionRow.id).join(StudyRow).where(StudyRow.key == study_key)
    newest = session.scalar(
        select(func.max(RevisionRow.number)).where(
            RevisionRow.id.in_(of_study), RevisionRow.pack == PackState.CONFIRMED
        )
    )
    rows = session.execute(
        select(RevisionRow.id, RevisionRow.content_hash).where(
            RevisionRow.id.in_(of_study),
            RevisionRow.pack == PackState.CONFIRMED,
            RevisionRow.number < (newest or 0),
        )
    )
    return tuple((revision_id, content_hash) for revision_id, content_hash in rows)


def forget(session: Session, revision_ids: Sequence[int]) -> None:
    """Store that packs were removed."""
    session.execute(
        update(RevisionRow).where(RevisionRow.id.in_(revision_ids)).values(pack=PackState.DELETED)
    )


def _locked(session: Session, revision_id: int) -> RevisionRow:
    """Revision, behind the lock on its study that everybody takes first."""
    session.scalars(
        select(StudyRow).join(RevisionRow).where(RevisionRow.id == revision_id).with_for_update(of=StudyRow)
    ).one()
    return session.scalars(
        select(RevisionRow).where(RevisionRow.id == revision_id).execution_options(populate_existing=True)
    ).one()


def _is_to_be_made(row: RevisionRow) -> bool:
    return row.pack is PackState.WANTED and row.pack_reason != CANCELLED


def _queued_scores(session: Session, revision_id: int) -> tuple[int, ...]:
    return tuple(
        session.scalars(
            select(ScoreRow.id).where(ScoreRow.revision_id == revision_id, ScoreRow.state == State.QUEUED)
        )
    )


def _instances(session: Session, revision: RevisionRow) -> tuple[PackedInstance, ...]:
    rows = session.execute(
        select(InstanceRow.file_name, InstanceRow.sha256)
        .where(
            InstanceRow.study_id == revision.study_id,
            InstanceRow.first_revision <= revision.number,
            ~InstanceRow.is_deleted,
        )
        .order_by(InstanceRow.file_name)
    )
    return tuple(PackedInstance(file_name=name, sha256=sha256) for name, sha256 in rows)
