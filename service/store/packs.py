"""Packs of revisions: which are to be made, and what became of them. Without one the spool is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.store.studies import Revision
from service.store.tables import InstanceRow, RevisionRow, ScoreRow, StudyRow
from service.study import PackState, State

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
    """A revision whose pack is to be made."""

    revision: Revision
    study_key: str
    completed_by: str
    instances: tuple[PackedInstance, ...]


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


def wanted(session: Session, *, limit: int) -> tuple[WantedPack, ...]:
    """Packs to be made, most urgent first."""
    rows = session.execute(
        select(RevisionRow, StudyRow.key, StudyRow.priority)
        .join(StudyRow, StudyRow.id == RevisionRow.study_id)
        .where(RevisionRow.pack == PackState.WANTED)
        .order_by(StudyRow.priority.desc(), RevisionRow.id)
        .limit(limit)
    ).all()
    return tuple(
        WantedPack(
            revision=Revision(id=row.id, number=row.number, content_hash=row.content_hash, priority=priority),
            study_key=key,
            completed_by=row.completed_by,
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
        wanted any more: another was first, or the study was completed anew.
    """
    row = _locked(session, revision_id)
    if row.pack is not PackState.WANTED:
        return None
    row.pack, row.pack_sha256, row.pack_bytes, row.pack_reason = PackState.CONFIRMED, sha256, size, None
    return _queued_scores(session, revision_id)


def release(session: Session, revision_id: int) -> tuple[int, ...] | None:
    """Let a revision be read from the spool after all; returns what `confirm` does."""
    row = _locked(session, revision_id)
    if row.pack is not PackState.WANTED:
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
