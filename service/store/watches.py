"""Watches over scanners as rows: what waits to be watched, what was seen, and whose percentile is withdrawn.

A score that is to be watched gets its row in the transaction that records it, and is given its number in the
transaction that keeps the watch's new state: however often a process dies, each counts once, and in order.
"""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, exists, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from models.documents import CalibrationDocument, Stratum
from models.drift import GroupWatch
from models.errors import Reason
from models.groups import Group
from service.store.tables import CalibrationRow, GroupWatchRow, RevisionRow, ScoreRow, StudyRow, WatchedRow
from service.study import Band, Whereabouts

SCORE = "score"  # among what the images are like
LOCK = 0x57_41_54_43_48  # "WATCH": one process watches at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """Whose percentile does not hold, under one model and calibration.

    Attributes
    ----------
    groups : frozenset of str
        Keys of scanners.
    mark : str
        Another one after every withdrawal and every end of one, for it shapes results; at first empty.
    """

    groups: frozenset[str] = frozenset()
    mark: str = ""

    def holds(self, group: Group) -> bool:
        """Whether a study of this group has no percentile now."""
        return group.scanner.key in self.groups


NOBODY = Withdrawn()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwatched:
    """A score that is to be watched.

    Attributes
    ----------
    score_id, study_id : int
    model_sha256, calibration_sha256 : str
    group : Group
        The scanner.
    numbers : dict of str to float
        ``score``, and what the images are like.
    """

    score_id: int
    study_id: int
    model_sha256: str
    calibration_sha256: str
    group: Group
    numbers: dict[str, float]

    @property
    def of(self) -> tuple[str, str, str]:
        """What the watch is known by."""
        return self.model_sha256, self.calibration_sha256, self.group.key


@dataclass(slots=True, kw_only=True)
class Watched:
    """One watch, while studies are given to it."""

    row_id: int
    state: GroupWatch
    seen: int
    is_withdrawn: bool
    numbers: dict[int, int | None] = field(default_factory=dict)  # by score, of this look


def withdrawn(session: Session, model_sha256: str, calibration_sha256: str | None) -> Withdrawn:
    """Whose percentile does not hold now. A worker asks it before it judges.

    Parameters
    ----------
    session : Session
    model_sha256 : str
    calibration_sha256 : str or None
        Of the document in force; None: the artefact's own calibration serves.
    """
    rows = session.execute(
        select(GroupWatchRow.group_key, GroupWatchRow.turns, GroupWatchRow.alarmed_at.is_not(None))
        .where(*conditions(model_sha256, calibration_sha256), GroupWatchRow.turns > 0)
        .order_by(GroupWatchRow.group_key)
    ).all()
    if not rows:
        return NOBODY
    mark = json.dumps([(key, turns) for key, turns, _ in rows])
    return Withdrawn(
        groups=frozenset(key for key, _, is_withdrawn in rows if is_withdrawn),
        mark=hashlib.sha256(mark.encode()).hexdigest(),
    )


def note(session: Session, score_id: int) -> None:
    """Have a score watched that was recorded in this transaction."""
    session.execute(insert(WatchedRow).values(score_id=score_id).on_conflict_do_nothing())


def take_turn(session: Session) -> bool:
    """Whether this transaction is the one that watches."""
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}))


def waiting(session: Session, *, limit: int) -> tuple[Unwatched, ...]:
    """Scores that are to be watched, in the order in which they were recorded."""
    rows = session.execute(
        select(
            ScoreRow.id,
            RevisionRow.study_id,
            ScoreRow.model_hash,
            ScoreRow.calibration_hash,
            ScoreRow.group_key,
            ScoreRow.study_score,
            ScoreRow.looks,
        )
        .join(WatchedRow, WatchedRow.score_id == ScoreRow.id)
        .join(RevisionRow, RevisionRow.id == ScoreRow.revision_id)
        .where(WatchedRow.is_waiting)
        .order_by(WatchedRow.id)
        .limit(limit)
    )
    return tuple(
        Unwatched(
            score_id=row.id,
            study_id=row.study_id,
            model_sha256=row.model_hash,
            calibration_sha256=row.calibration_hash,
            group=Group.model_validate_json(row.group_key).scanner,
            numbers=({} if row.study_score is None else {SCORE: row.study_score}) | row.looks,
        )
        for row in rows
    )


def find(session: Session, of: tuple[str, str, str]) -> Watched | None:
    """The watch over a scanner under a model and a calibration; None where it has not begun."""
    model_sha256, calibration_sha256, group_key = of
    row = session.scalar(
        select(GroupWatchRow).where(
            GroupWatchRow.model_sha256 == model_sha256,
            GroupWatchRow.calibration_sha256 == calibration_sha256,
            GroupWatchRow.group_key == group_key,
        )
    )
    return _watched(row) if row else None


def document_of(session: Session, sha256: str) -> CalibrationDocument | None:
    """A calibration document; None for the calibration that an artefact brought."""
    found = session.scalar(select(CalibrationRow.document).where(CalibrationRow.sha256 == sha256))
    return None if found is None else CalibrationDocument.model_validate(found)


def begin(session: Session, of: tuple[str, str, str], state: GroupWatch) -> Watched:
    """Keep a new watch."""
    model_sha256, calibration_sha256, group_key = of
    row = GroupWatchRow(
        model_sha256=model_sha256,
        calibration_sha256=calibration_sha256,
        group_key=group_key,
        state=state.model_dump(mode="json"),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return _watched(row)


def was_watched(session: Session, watch_id: int, study_id: int) -> bool:
    """Whether a study counts in a watch already: sent again or scored again, it is no news of the scanner."""
    return bool(
        session.scalar(
            select(
                exists()
                .where(WatchedRow.watch_id == watch_id, WatchedRow.score_id == ScoreRow.id)
                .where(ScoreRow.revision_id == RevisionRow.id, RevisionRow.study_id == study_id)
            )
        )
    )


def settle(session: Session, watched: Watched) -> None:
    """Keep what a watch saw, and the numbers of its studies."""
    row = session.get_one(GroupWatchRow, watched.row_id)
    row.state, row.seen = watched.state.model_dump(mode="json"), watched.seen
    for score_id, number in watched.numbers.items():
        session.execute(
            update(WatchedRow)
            .where(WatchedRow.score_id == score_id)
            .values(is_waiting=False, watch_id=watched.row_id, number=number)
        )
    watched.numbers.clear()


def withdraw(session: Session, watched: Watched, *, at: datetime) -> int:
    """Withdraw the percentile of a watch's scanner; return the number of the first study of the change."""
    row = session.get_one(GroupWatchRow, watched.row_id)
    row.alarmed_at, row.alarms = at, list(watched.state.alarms)
    row.changed_number = max(1, watched.seen - watched.state.studies_since_change + 1)
    row.turns += 1
    watched.is_withdrawn = True
    return row.changed_number


def conditions(model_sha256: str, calibration_sha256: str | None) -> tuple[ColumnElement[bool], ...]:
    """Of a model and a document; without one, of the calibration that the model brought."""
    return (
        GroupWatchRow.model_sha256 == model_sha256,
        GroupWatchRow.calibration_sha256.not_in(select(CalibrationRow.sha256))
        if calibration_sha256 is None
        else GroupWatchRow.calibration_sha256 == calibration_sha256,
    )


def carry_over(session: Session, model_sha256: str, before: str | None, now: str) -> None:
    """Go on watching scanners whose own reference is the same in the document that is in force now.

    One scanner was commissioned; what is known of the others holds, their alarms too.

    Parameters
    ----------
    session : Session
    model_sha256 : str
    before, now : str
        Hashes of the documents; None: the model's own calibration served, and every watch begins anew.
    """
    old, new = (None if sha256 is None else document_of(session, sha256) for sha256 in (before, now))
    if old is None or new is None:
        return
    begun = {
        row.group_key: row
        for row in session.scalars(select(GroupWatchRow).where(*conditions(model_sha256, now)))
    }
    for row in session.scalars(select(GroupWatchRow).where(*conditions(model_sha256, before))).all():
        scanner = Group.model_validate_json(row.group_key)
        if _own(old, scanner) == _own(new, scanner):
            if row.group_key in begun:
                _take_in(session, row, begun[row.group_key])
            state = GroupWatch.model_validate(row.state).model_copy(update={"calibration_sha256": now})
            row.calibration_sha256, row.state = now, state.model_dump(mode="json")
            session.flush()


def _take_in(session: Session, row: GroupWatchRow, begun: GroupWatchRow) -> None:
    """End the watch that studies scored meanwhile began beside one that goes on; its alarm stays.

    They were scored under a document that was in force no more, or not yet, and are its few late ones.
    """
    if begun.alarmed_at is not None and row.alarmed_at is None:
        # Their numbers are of the other watch: all that this one saw is doubtful.
        row.alarmed_at, row.alarms, row.changed_number = begun.alarmed_at, begun.alarms, 1
    row.turns += begun.turns
    session.execute(
        update(WatchedRow).where(WatchedRow.watch_id == begun.id).values(watch_id=row.id, number=None)
    )
    session.delete(begun)
    session.flush()  # before the other takes its place


def _own(document: CalibrationDocument, scanner: Group) -> list[Stratum]:
    """Reference studies of the scanner itself."""
    return [stratum for stratum in document.strata if scanner.holds(stratum.group)]


def misjudged(session: Session, *, limit: int) -> tuple[str, ...]:
    """Keys of studies that stand otherwise than the watches say now, and can be scored again.

    Seen by nobody, from after the estimated change of a scanner whose percentile is withdrawn, and ranked or
    taken for another kind of image; or without a percentile because of an alarm that was dismissed.
    """
    score = aliased(ScoreRow)
    is_of_the_changed = (
        GroupWatchRow.alarmed_at.is_not(None)
        & (WatchedRow.number >= GroupWatchRow.changed_number)
        & ((StudyRow.band == Band.RANKED) | (score.reason == Reason.UNLIKE_TRAINING))
        & StudyRow.seen_at.is_(None)
    )
    is_without_need = GroupWatchRow.alarmed_at.is_(None) & (score.reason == Reason.DRIFTED)
    return tuple(
        session.scalars(
            select(StudyRow.key)
            .join(score, score.id == StudyRow.score_id)
            .join(WatchedRow, WatchedRow.score_id == score.id)
            .join(GroupWatchRow, GroupWatchRow.id == WatchedRow.watch_id)
            .where(
                GroupWatchRow.turns > 0,
                StudyRow.bytes_are == Whereabouts.HERE,
                StudyRow.ended_at.is_not(None),
                is_of_the_changed | is_without_need,
            )
            .order_by(StudyRow.id)
            .limit(limit)
        )
    )


def _watched(row: GroupWatchRow) -> Watched:
    return Watched(
        row_id=row.id,
        state=GroupWatch.model_validate(row.state),
        seen=row.seen,
        is_withdrawn=row.alarmed_at is not None,
    )
