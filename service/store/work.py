"""Work items made, claimed, completed and cancelled, each with its audit row and what watchers are told.

A study that has an end and that nobody has seen gets one, and one that its study has moved on from is
cancelled. Claiming one claims the study on the list, completing it marks the study as seen, in one
transaction. The rows are locked while a state changes, so of two claimants one wins.
"""

import hmac
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dicom_node.identity import derive_uid
from service.errors import TriageError
from service.store import audit, marks, studies
from service.store.tables import StudyRow, WorkitemEventRow, WorkitemRow
from service.store.workitems import ENDS, UnknownWorkitemError, WorkState
from service.study import Whereabouts

LOCK = 0x57_4F_52_4B  # "WORK"
AT_ONCE = 1000  # work items made in one look
SUPERSEDED = "The study has moved on: seen on the list, scored again, or deleted."
LONGEST_TEXT = 1024  # characters of what a performer says
KEEP_EVENTS_DAYS = 7


class Report(StrEnum):
    """What watchers are told; the values are the event types of PS3.4 CC.2.4-1 in words."""

    STATE = "state"
    CANCEL_REQUESTED = "cancel_requested"
    PROGRESS = "progress"
    ASSIGNED = "assigned"


EVENT_TYPES: Final = {Report.STATE: 1, Report.CANCEL_REQUESTED: 2, Report.PROGRESS: 3, Report.ASSIGNED: 5}


class WorkitemStateError(TriageError):
    """The work item is not in a state that allows it. Retrieve it and see whose it is."""


class TransactionUidError(TriageError):
    """The Transaction UID is missing, or not the one the work item was claimed with."""


def follow(session: Session) -> None:
    """Make the work items that are missing, and cancel those whose study has moved on."""
    now = datetime.now(UTC)
    waiting = session.execute(
        select(StudyRow.id, StudyRow.key, StudyRow.score_id)
        .where(
            StudyRow.score_id.is_not(None),
            StudyRow.ended_at.is_not(None),
            StudyRow.seen_at.is_(None),
            StudyRow.bytes_are == Whereabouts.HERE,
            ~exists().where(WorkitemRow.score_id == StudyRow.score_id),
        )
        .order_by(StudyRow.id.desc())
        .limit(AT_ONCE)
    ).all()
    made: list[int] = []
    if waiting:
        found = session.scalars(
            insert(WorkitemRow)
            .values(
                [
                    {"uid": derive_uid("workitem", key, str(score)), "study_id": study, "score_id": score}
                    for study, key, score in waiting
                ]
            )
            .on_conflict_do_nothing()
            .returning(WorkitemRow.id)
        )
        made.extend(found)
    moved_on = (
        select(WorkitemRow.id)
        .join(StudyRow, StudyRow.id == WorkitemRow.study_id)
        .where(
            WorkitemRow.state == WorkState.SCHEDULED,
            or_(
                StudyRow.score_id.is_distinct_from(WorkitemRow.score_id),
                StudyRow.ended_at.is_(None),
                StudyRow.seen_at.is_not(None),
                StudyRow.bytes_are != Whereabouts.HERE,
            ),
        )
        .with_for_update(of=WorkitemRow, skip_locked=True)  # one that changes now is looked at next time
    )
    left = session.scalars(
        update(WorkitemRow)
        .where(WorkitemRow.id.in_(moved_on))
        .values(state=WorkState.CANCELED, reason=SUPERSEDED, ended_at=now, modified_at=now)
        .returning(WorkitemRow.id)
    ).all()
    _report_state(session, made, WorkState.SCHEDULED)  # no row is waited for from here on
    _report_state(session, list(left), WorkState.CANCELED)
    session.execute(
        delete(WorkitemEventRow).where(
            WorkitemEventRow.at < func.now() - func.make_interval(0, 0, 0, KEEP_EVENTS_DAYS)
        )
    )


def change_state(session: Session, uid: str, to: WorkState, transaction_uid: str, *, actor: str) -> bool:
    """Claim, complete or cancel a work item; False where it was cancelled or completed before.

    Raises
    ------
    UnknownWorkitemError
        If there is none.
    WorkitemStateError
        If its state, its study, or somebody else's claim on the list does not allow it.
    TransactionUidError
        If it was claimed with another Transaction UID.
    """
    row, key = _locked(session, uid)
    if row.state == to and to in ENDS:
        return False
    _take_turn(session)  # before that of the audit trail, as everybody who needs both
    if to is WorkState.IN_PROGRESS:
        _claim(session, row, key, transaction_uid, actor=actor)
    elif to in ENDS and row.state == WorkState.IN_PROGRESS:
        _check_lock(row, transaction_uid)
        _end(session, row, key, to, actor=actor)
    else:
        raise WorkitemStateError(WorkitemStateError.__doc__)
    _report_state(session, [row.id], to)
    audit.append(session, "workitem.changed", actor=actor, study_key=key, state=to.value)
    return True


def note_progress(
    session: Session, uid: str, transaction_uid: str, *, percent: float | None, words: str, actor: str
) -> None:
    """Store how far the performer is.

    Raises
    ------
    UnknownWorkitemError, WorkitemStateError, TransactionUidError
        As `change_state` does.
    """
    row, key = _locked(session, uid)
    if row.state != WorkState.IN_PROGRESS:
        raise WorkitemStateError(WorkitemStateError.__doc__)
    _check_lock(row, transaction_uid)
    row.progress = row.progress if percent is None else percent
    row.progress_text = words[:LONGEST_TEXT] or row.progress_text
    row.modified_at = datetime.now(UTC)
    _report(session, row.id, Report.PROGRESS, {"percent": row.progress, "text": row.progress_text})
    audit.append(session, "workitem.progressed", actor=actor, study_key=key)


def request_cancel(session: Session, uid: str, reason: str, *, actor: str) -> None:
    """Cancel a work item that nobody has claimed, or ask its performer to.

    Raises
    ------
    UnknownWorkitemError
        If there is none.
    WorkitemStateError
        If it has ended.
    """
    row, key = _locked(session, uid)
    if row.state in ENDS:
        raise WorkitemStateError(WorkitemStateError.__doc__)
    if row.state == WorkState.SCHEDULED:
        now = datetime.now(UTC)
        row.state, row.reason = WorkState.CANCELED, reason[:LONGEST_TEXT]
        row.ended_at = row.modified_at = now
        _report_state(session, [row.id], WorkState.CANCELED)
    else:
        _report(session, row.id, Report.CANCEL_REQUESTED, {"reason": reason[:LONGEST_TEXT]})
    audit.append(session, "workitem.cancel_requested", actor=actor, study_key=key, state=row.state)


def _claim(session: Session, row: WorkitemRow, key: str, transaction_uid: str, *, actor: str) -> None:
    study = studies.locked(session, key)
    if (
        row.state != WorkState.SCHEDULED
        or study.assigned_to not in {None, actor}
        or not _is_about_what_counts(row, study)
    ):
        raise WorkitemStateError(WorkitemStateError.__doc__)
    marks.assign(session, key, actor, actor=actor, versions=None)
    now = datetime.now(UTC)
    row.state, row.transaction_uid, row.performer = WorkState.IN_PROGRESS, transaction_uid, actor
    row.started_at = row.modified_at = now
    _report(session, row.id, Report.ASSIGNED, {"performer": actor})


def _end(session: Session, row: WorkitemRow, key: str, to: WorkState, *, actor: str) -> None:
    """Let the list say it too: who completes has seen it, who gives up lets it go.

    Whoever read an older score has not seen what came after it.
    """
    study = studies.locked(session, key)
    if to is WorkState.COMPLETED:
        if _is_about_what_counts(row, study):
            marks.mark_seen(session, key, actor=actor)
    elif study.assigned_to == row.performer:
        marks.assign(session, key, None, actor=actor, versions=None)
    row.state = to
    row.ended_at = row.modified_at = datetime.now(UTC)


def _is_about_what_counts(row: WorkitemRow, study: StudyRow) -> bool:
    """Whether the score that the work item was made of still stands on the list."""
    return study.score_id == row.score_id and study.ended_at is not None


def _check_lock(row: WorkitemRow, transaction_uid: str) -> None:
    if not hmac.compare_digest((row.transaction_uid or "").encode(), transaction_uid.encode()):
        raise TransactionUidError(TransactionUidError.__doc__)


def _locked(session: Session, uid: str) -> tuple[WorkitemRow, str]:
    """Row of a work item for this transaction alone, and its study's key; the study first, as others do."""
    key = session.scalar(
        select(StudyRow.key)
        .join(WorkitemRow, WorkitemRow.study_id == StudyRow.id)
        .where(WorkitemRow.uid == uid)
        .with_for_update(of=StudyRow)
    )
    if key is None:
        raise UnknownWorkitemError(UnknownWorkitemError.__doc__)
    return session.scalars(select(WorkitemRow).where(WorkitemRow.uid == uid).with_for_update()).one(), key


def _report_state(session: Session, workitem_ids: list[int], state: WorkState) -> None:
    for workitem_id in workitem_ids:
        _report(session, workitem_id, Report.STATE, {"state": state.value})


def _report(session: Session, workitem_id: int, kind: Report, detail: dict[str, Any]) -> None:
    _take_turn(session)
    session.add(WorkitemEventRow(workitem_id=workitem_id, kind=EVENT_TYPES[kind], detail=detail))


def _take_turn(session: Session) -> None:
    """One writer at a time until it commits: whoever reads on from an id misses none that comes before it."""
    session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
