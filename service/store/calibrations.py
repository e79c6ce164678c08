"""Calibration documents: proposed, decided upon by a person, in force. One per model, versioned, on record.

A document never changes. What is decided about it is a row of the audit trail in the same transaction, with
who, why, its hash and the hash of what was in force before. The accepted document of a model is in force for
it; without one the calibration in the artefact serves, unless the site has accepted a document for another
model: then nothing falls back, and studies are *uncalibrated* until this model has a document too.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, defer

from models.documents import CalibrationDocument
from service.errors import TriageError
from service.store import audit
from service.store.tables import CalibrationRow
from service.study import CalibrationState, Origin


class UnknownCalibrationError(TriageError):
    """No calibration has this number. List them with ``vigil calibrations list``."""


class CalibrationKnownError(TriageError):
    """The document is known already. See it with ``vigil calibrations list``."""


class CalibrationDecidedError(TriageError):
    """That cannot be decided about this calibration as it stands. Load it again and decide anew."""


class CalibrationStaleError(TriageError):
    """Another calibration came into force since this one was proposed. Refuse it: a new proposal follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """One document, and where it stands.

    Attributes
    ----------
    id, version : int
    sha256, model_sha256 : str
    state : CalibrationState
    origin : Origin
    author, reason : str
        Of the document.
    proposed_at : datetime
    decided_at, decided_by
        None until somebody has decided.
    before : str or None
        Hash of the document it was made to replace; once accepted, of what was in force.
    scanner : str or None
        Key of the scanner that it commissions (`models.groups.Group.scanner`).
    """

    id: int
    version: int
    sha256: str
    model_sha256: str
    state: CalibrationState
    origin: Origin
    author: str
    reason: str
    proposed_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    before: str | None
    scanner: str | None


def accepted(session: Session, model_sha256: str) -> CalibrationDocument | None:
    """Return the document in force for a model; None where no document of its own is."""
    row = session.scalar(_accepted(model_sha256))
    return None if row is None else _document(row)


def sha256_in_force(session: Session, model_sha256: str) -> str | None:
    """Return the hash of what a model's studies are compared with; None: the artefact's own.

    Of a site that accepted a document of another model alone it is that one: it has no group for this model.
    """
    return session.scalar(
        select(CalibrationRow.sha256)
        .where(CalibrationRow.state == CalibrationState.ACCEPTED)
        .order_by((CalibrationRow.model_sha256 != model_sha256), CalibrationRow.decided_at.desc())
        .limit(1)
    )


def groups_in_force(session: Session, model_sha256: str) -> int:
    """Return how many groups the document in force for a model has; 0 where none of its own is."""
    strata = CalibrationRow.document["strata"]
    query = _accepted(model_sha256).with_only_columns(func.jsonb_array_length(strata))
    return session.scalar(query) or 0


def read(session: Session, sha256: str) -> CalibrationDocument:
    """Return a document by its hash."""
    return _document(session.scalars(select(CalibrationRow).where(CalibrationRow.sha256 == sha256)).one())


def listed(session: Session, *, state: CalibrationState | None = None) -> tuple[Calibration, ...]:
    """Return all calibrations, or those of a state, newest first."""
    query = select(CalibrationRow).options(defer(CalibrationRow.document)).order_by(CalibrationRow.id.desc())
    if state is not None:
        query = query.where(CalibrationRow.state == state)
    return tuple(_value(row) for row in session.scalars(query))


def find(session: Session, calibration_id: int) -> tuple[Calibration, CalibrationDocument]:
    """Return one calibration with its document.

    Raises
    ------
    UnknownCalibrationError
        If there is none of this number.
    """
    row = session.get(CalibrationRow, calibration_id)
    if row is None:
        raise UnknownCalibrationError(UnknownCalibrationError.__doc__)
    return _value(row), _document(row)


def next_version(session: Session) -> int:
    """Return the version of the next document of this site."""
    return 1 + (session.scalar(select(func.max(CalibrationRow.version))) or 0)


def propose(
    session: Session,
    document: CalibrationDocument,
    *,
    origin: Origin,
    actor: str,
    scanner: str | None = None,
) -> Calibration:
    """Keep a document for a person to decide about.

    Parameters
    ----------
    scanner : str, optional
        Key of the scanner it commissions: its other groups are those of the document it replaces.

    Raises
    ------
    CalibrationKnownError
        If it is kept already, whatever became of it.
    """
    if session.scalar(select(CalibrationRow.id).where(CalibrationRow.sha256 == document.sha256)) is not None:
        raise CalibrationKnownError(CalibrationKnownError.__doc__)
    row = CalibrationRow(
        sha256=document.sha256,
        version=document.version,
        model_sha256=document.model_sha256,
        document=document.model_dump(mode="json"),
        state=CalibrationState.PROPOSED,
        origin=origin,
        author=document.author,
        reason=document.reason,
        scanner=scanner,
        before=document.replaces,
    )
    session.add(row)
    session.flush()
    _note(session, "calibration.proposed", row, actor=actor, origin=origin.value, studies=document.n)
    return _value(row)


def accept(session: Session, calibration_id: int, *, actor: str, reason: str = "") -> Calibration:
    """Put a document in force for its model, in place of the one before, which is retired.

    Raises
    ------
    UnknownCalibrationError
    CalibrationDecidedError
        If it is in force already.
    CalibrationStaleError
        If it commissions a scanner beside what is in force no more.
    """
    row = _locked(session, calibration_id)
    if row.state == CalibrationState.ACCEPTED:
        raise CalibrationDecidedError(CalibrationDecidedError.__doc__)
    before = session.scalar(_accepted(row.model_sha256).with_for_update())
    if row.state == CalibrationState.PROPOSED and _is_stale(row, before):
        raise CalibrationStaleError(CalibrationStaleError.__doc__)
    if before is not None:
        _decide(before, CalibrationState.RETIRED, actor)
        session.flush()  # before there are two
    _decide(row, CalibrationState.ACCEPTED, actor)
    row.before = None if before is None else before.sha256
    session.flush()
    _note(session, "calibration.accepted", row, actor=actor, before=row.before, why=reason)
    return _value(row)


def refuse(session: Session, calibration_id: int, *, actor: str, reason: str = "") -> Calibration:
    """Say no to a proposed document; it stays on record.

    Raises
    ------
    UnknownCalibrationError
    CalibrationDecidedError
        If it is no proposal any more.
    """
    row = _locked(session, calibration_id)
    if row.state != CalibrationState.PROPOSED:
        raise CalibrationDecidedError(CalibrationDecidedError.__doc__)
    _decide(row, CalibrationState.REFUSED, actor)
    session.flush()
    _note(session, "calibration.refused", row, actor=actor, why=reason)
    return _value(row)


def retire(session: Session, calibration_id: int, *, actor: str, reason: str = "") -> Calibration | None:
    """Take the document in force out of it; the one before is in force again.

    Returns
    -------
    Calibration or None
        What is in force now; None where there was nothing before.

    Raises
    ------
    UnknownCalibrationError
    CalibrationDecidedError
        If it is not in force.
    """
    row = _locked(session, calibration_id)
    if row.state != CalibrationState.ACCEPTED:
        raise CalibrationDecidedError(CalibrationDecidedError.__doc__)
    _decide(row, CalibrationState.RETIRED, actor)
    session.flush()
    now = session.scalar(select(CalibrationRow).where(CalibrationRow.sha256 == row.before).with_for_update())
    if now is not None:
        _decide(now, CalibrationState.ACCEPTED, actor)
        session.flush()
    _note(session, "calibration.retired", row, actor=actor, now=now.sha256 if now else None, why=reason)
    return None if now is None else _value(now)


def _is_stale(row: CalibrationRow, in_force: CalibrationRow | None) -> bool:
    """Whether accepting it would take groups away that came into force since."""
    return row.scanner is not None and row.before != (in_force.sha256 if in_force else None)


def _accepted(model_sha256: str) -> Select[CalibrationRow]:
    return select(CalibrationRow).where(
        CalibrationRow.model_sha256 == model_sha256, CalibrationRow.state == CalibrationState.ACCEPTED
    )


def _locked(session: Session, calibration_id: int) -> CalibrationRow:
    row = session.scalar(select(CalibrationRow).where(CalibrationRow.id == calibration_id).with_for_update())
    if row is None:
        raise UnknownCalibrationError(UnknownCalibrationError.__doc__)
    return row


def _decide(row: CalibrationRow, state: CalibrationState, actor: str) -> None:
    row.state, row.decided_at, row.decided_by = state, datetime.now(UTC), actor


def _note(session: Session, action: str, row: CalibrationRow, *, actor: str, **detail: Any) -> None:
    audit.append(
        session,
        action,
        actor=actor,
        sha256=row.sha256,
        version=row.version,
        model_hash=row.model_sha256,
        author=row.author,
        reason=row.reason,
        **detail,
    )


def _document(row: CalibrationRow) -> CalibrationDocument:
    return CalibrationDocument.model_validate(row.document)


def _value(row: CalibrationRow) -> Calibration:
    return Calibration(
        id=row.id,
        version=row.version,
        sha256=row.sha256,
        model_sha256=row.model_sha256,
        state=CalibrationState(row.state),
        origin=Origin(row.origin),
        author=row.author,
        reason=row.reason,
        proposed_at=row.proposed_at.astimezone(UTC),
        decided_at=row.decided_at.astimezone(UTC) if row.decided_at else None,
        decided_by=row.decided_by,
        before=row.before,
        scanner=row.scanner,
    )
