"""What people mark on a study for one another: that it was seen, and whose it is."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.access import GRANTS, Permission
from service.errors import ConflictError, TriageError, UnknownStudyError
from service.store import audit, people, shown, studies
from service.store.tables import StudyRow


class NobodyToAssignError(TriageError):
    """Nobody of this name reads studies here. Take the name of an account that may, or your own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Whether a person looked at what the newest score says.

    Attributes
    ----------
    seen_at : datetime or None
        When somebody first did; None where nobody has.
    seen_by : str or None
    """

    seen_at: datetime | None
    seen_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Whose study it is.

    Attributes
    ----------
    assigned_to : str or None
        None where it is nobody's.
    assigned_by : str or None
        Who said so.
    assigned_at : datetime or None
    version : int
        Counts the changes; who changes it names the one that was on the screen.
    """

    assigned_to: str | None
    assigned_by: str | None
    assigned_at: datetime | None
    version: int


def mark_seen(
    session: Session, key: str, *, actor: str, revision: int | None = None, score: str | None = None
) -> Seen:
    """Note that somebody looked. Seen before, it stays whose it was.

    Parameters
    ----------
    revision, score : optional
        What was on the screen (`service.store.shown.require`).

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    RevisionChangedError, ScoreChangedError
        If something else counts now.
    """
    study = studies.locked(session, key)
    shown.require(session, study, revision=revision, score=score)
    if study.seen_at is None:
        study.seen_at, study.seen_by = datetime.now(UTC), actor
        audit.append(session, "study.seen", actor=actor, study_key=key)
    return Seen(seen_at=study.seen_at.astimezone(UTC), seen_by=study.seen_by)


def unmark_seen(session: Session, key: str, *, actor: str) -> Seen:
    """Take it back: the study counts as not looked at.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    study = studies.locked(session, key)
    if study.seen_at is not None:
        study.seen_at, study.seen_by = None, None
        audit.append(session, "study.unseen", actor=actor, study_key=key)
    return Seen(seen_at=None, seen_by=None)


def assignment(session: Session, key: str) -> Assignment:
    """Return whose study it is.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    """
    study = session.scalar(select(StudyRow).where(StudyRow.key == key))
    if study is None:
        raise UnknownStudyError(UnknownStudyError.__doc__)
    return _assignment(study)


def assign(
    session: Session, key: str, to: str | None, *, actor: str, versions: frozenset[int] | None
) -> Assignment:
    """Give a study to somebody, or to nobody.

    Parameters
    ----------
    to : str or None
        An account that may read, or `actor`.
    versions : frozenset of int or None
        What the caller saw; None: whatever it is now.

    Raises
    ------
    UnknownStudyError
        If nobody knows the key.
    ConflictError
        If somebody changed it since.
    NobodyToAssignError
        If `to` may not read.
    """
    study = studies.locked(session, key)
    if versions is not None and study.assignment_version not in versions:
        raise ConflictError(ConflictError.__doc__)
    if to == study.assigned_to:
        return _assignment(study)
    if to is not None and to != actor and to not in _readers(session):
        raise NobodyToAssignError(NobodyToAssignError.__doc__)
    study.assigned_to, study.assigned_by, study.assigned_at = to, actor, datetime.now(UTC)
    study.assignment_version += 1
    audit.append(session, "study.assigned", actor=actor, study_key=key, assigned_to=to)
    return _assignment(study)


def _readers(session: Session) -> frozenset[str]:
    return frozenset(
        account.name
        for account in people.accounts(session)
        if account.is_active and Permission.READ in GRANTS[account.role]
    )


def _assignment(study: StudyRow) -> Assignment:
    return Assignment(
        assigned_to=study.assigned_to,
        assigned_by=study.assigned_by,
        assigned_at=study.assigned_at.astimezone(UTC) if study.assigned_at else None,
        version=study.assignment_version,
    )
