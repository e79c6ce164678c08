"""Watches every scanner for drift, study by study, and withdraws the percentile of one that has changed.

All consecutive studies of a scanner are watched: those a model scored, with or without a percentile, and
those it did not score because their images are too far from the reference. Nothing that depends on a score
may choose among them. A reader's verdict does, for what was highlighted is judged more often; so confirmed
findings stay in. What the images are like is compared with the scanner's own reference studies, for a finding
hardly moves it. The scores are ranked among those watched before: a reference leaves findings out, and
against it every abnormal study of a hospital would be evidence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from models.appearance import NAMES
from models.documents import CalibrationDocument
from models.drift import GroupWatch
from models.groups import Group
from models.references import LEAST_LOOKS
from service import announce
from service.store import Store, audit, watch_lists, watches
from service.store.reports import DriftAlarm
from service.store.watch_lists import ListedWatch
from service.store.watches import SCORE, Unwatched, Watched

ACTOR = "node"
AT_ONCE = 200  # studies of one transaction
AGAIN_AT_ONCE = 50  # studies put back to the queue in one look

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """The loop from score to watch.

    Attributes
    ----------
    store : Store
    judge_again : callable
        Puts a study, by its key, back to the queue.
    """

    store: Store
    judge_again: Callable[[Session, str], None]

    def step(self, now: datetime) -> None:
        """Watch what was scored since the last look; bring the list into line with what was found."""
        while self._watch(now) == AT_ONCE:
            pass
        for key in self._misjudged():
            with self.store.transaction() as session:
                self.judge_again(session, key)

    def _watch(self, now: datetime) -> int:
        """Give some scores to their watches; return how many."""
        with self.store.transaction() as session:
            if not watches.take_turn(session):
                return 0
            studies = watches.waiting(session, limit=AT_ONCE)
            held: dict[tuple[str, str, str], Watched] = {}
            counted: set[tuple[int, int]] = set()
            alarms = []
            for study in studies:
                watched = held.get(study.of) or _opened(session, study)
                held[study.of] = watched
                place = (watched.row_id, study.study_id)
                if place in counted or watches.was_watched(session, *place):
                    watched.numbers[study.score_id] = None
                    continue
                counted.add(place)
                watched.seen += 1
                watched.numbers[study.score_id] = watched.seen
                if watched.is_withdrawn:  # it has said it all
                    continue
                watched.state = watched.state.look(study.numbers)
                if watched.state.alarms:
                    alarms.append(_alarm(session, study, watched, now))
            for watched in held.values():
                watches.settle(session, watched)
            for alarm in alarms:  # last: they take the turn of the audit trail
                _tell(session, alarm)
            return len(studies)

    def _misjudged(self) -> tuple[str, ...]:
        with self.store.transaction() as session:
            if not watches.take_turn(session):
                return ()
            return watches.misjudged(session, limit=AGAIN_AT_ONCE)


def dismiss(session: Session, watch_id: int, *, actor: str, reason: str) -> ListedWatch:
    """Give a percentile back after a false alarm, on record with who and why; return the watch as it was.

    Raises
    ------
    UnknownGroupError
        If there is no such watch, or its percentile is not withdrawn.
    """
    before = watch_lists.dismiss(session, watch_id)
    audit.append(
        session,
        "drift.dismissed",
        actor=actor,
        group=before.group,
        alarms=list(before.alarms),
        studies=before.seen,
        reason=reason,
        model_hash=before.model_sha256,
        calibration_hash=before.calibration_sha256,
    )
    return before


def reference_of(document: CalibrationDocument | None, scanner: Group) -> dict[str, list[float]]:
    """What the numbers of a scanner's studies are compared with: its own reference studies, or nothing.

    Parameters
    ----------
    document : CalibrationDocument or None
        None: the artefact's own calibration, whose studies came from elsewhere.
    scanner : Group

    Returns
    -------
    dict of str to list of float
        By name of the number; empty where the studies watched before are to speak alone.
    """
    found: dict[str, list[float]] = {name: [] for name in (SCORE, *NAMES)}
    own = [one for one in document.strata if scanner.holds(one.group)] if document else []
    if sum(len(one.scores) for one in own) < LEAST_LOOKS:
        return found
    for name in NAMES:
        if all(name in one.looks for one in own):
            found[name] = [value for one in own for value in one.looks[name]]
    return found


def _opened(session: Session, study: Unwatched) -> Watched:
    found = watches.find(session, study.of)
    if found is not None:
        return found
    reference = reference_of(watches.document_of(session, study.calibration_sha256), study.group)
    state = GroupWatch.begin(study.group.label, study.calibration_sha256, reference)
    return watches.begin(session, study.of, state)


def _alarm(session: Session, study: Unwatched, watched: Watched, now: datetime) -> DriftAlarm:
    since = watches.withdraw(session, watched, at=now)
    return DriftAlarm(
        watch_id=watched.row_id,
        group=study.group.label,
        group_key=study.group.key,
        model_sha256=study.model_sha256,
        calibration_sha256=study.calibration_sha256,
        alarms=watched.state.alarms,
        studies=watched.seen,
        studies_since_change=watched.seen - since + 1,
        happened_at=now,
    )


def _tell(session: Session, alarm: DriftAlarm) -> None:
    """Into the audit trail, to other systems, and into the log."""
    audit.append(
        session,
        "drift.alarmed",
        actor=ACTOR,
        group=alarm.group,
        alarms=list(alarm.alarms),
        studies=alarm.studies,
        studies_since_change=alarm.studies_since_change,
        model_hash=alarm.model_sha256,
        calibration_hash=alarm.calibration_sha256,
    )
    announce.announce_drift(session, alarm)
    log.warning(
        "scanner has changed: its percentile is withdrawn",
        group=alarm.group,
        alarms=alarm.alarms,
        studies_since_change=alarm.studies_since_change,
    )
