"""A scanner that nobody calibrated collects its own reference, and proposes it to a person.

Its studies stand in a band of their own, with a raw score and no percentile. When enough of them have come,
one a person, consecutive, they become a document beside what is in force: the groups of all other scanners
stay as they are. A person accepts it or refuses it; nothing is calibrated by itself.

Some of the collected studies are abnormal. They score high, so a conformal p against them is milder: a normal
is still flagged with a chance of at most alpha, and so are the highlighted regions. What a reader found
something on is left out. Nothing is trimmed by its score: that would take the highest normals away with the
abnormal, and the promise with them (`tests/service/test_commissioning.py` shows both).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from models.documents import CalibrationDocument, SiteCalibration, strata_of
from models.errors import NotAssessableError
from models.groups import ALIKE, Group
from service.admission import Admission
from service.calibrations import Calibrations
from service.replay import rescore
from service.store import Store, calibrations, scanners
from service.store.calibrations import Calibration
from service.store.scanners import Chosen, GroupCount
from service.study import Band, CalibrationState, Origin

ACTOR = "commissioning"
LOCK = 0x43_4F_4D_4D  # "COMM": one node at a time proposes
EVERY_S = 60.0
LOOKED_BACK = timedelta(days=365)  # Older studies are no reference for what a scanner makes today.
MOST_RESCORED = 1000  # At once; the next order goes on.
BY_SCANNER = (*ALIKE, "manufacturer", "model_name")

WAITING = (Band.UNCALIBRATED,)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """What became of the uncalibrated studies.

    Attributes
    ----------
    queued : int
        At most `MOST_RESCORED`.
    left : int
        Still without a reference.
    """

    queued: int
    left: int


@dataclass(slots=True, kw_only=True)
class Commissioning:
    """Proposes calibrations, now and then.

    Attributes
    ----------
    store : Store
    model_hash : callable
        Of the model that is in service now.
    studies : int
        Consecutive studies of a scanner that make its reference.
    """

    store: Store
    model_hash: Callable[[], str]
    studies: int
    _looked_at: float | None = None

    def step(self, now: datetime) -> None:
        """Look every minute."""
        if self._looked_at is not None and time.monotonic() - self._looked_at < EVERY_S:
            return
        self._looked_at = time.monotonic()
        self.propose(now)

    def propose(self, now: datetime) -> Calibration | None:
        """Propose a document for the first scanner with enough studies; None where there is none.

        One at a time: the next one is made beside what a person decided about this one.
        """
        model = self.model_hash()
        with self.store.transaction() as session:
            if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}):
                return None
            history = [one for one in calibrations.listed(session) if one.model_sha256 == model]
            before = calibrations.accepted(session, model)
            if any(_is_open(one, before) for one in history):
                return None
            since = now - LOOKED_BACK
            counts = scanners.count_groups(session, model, since=since, bands=WAITING)
            for scanner, groups in by_scanner(counts).items():
                if sum(group.uncalibrated for group in groups) < self.studies:
                    continue
                chosen = scanners.choose(
                    session,
                    model,
                    most=self.studies,
                    bands=WAITING,
                    groups=[group.group for group in groups],
                    received_from=max([since, *_decided(history, before, scanner)]),
                )
                if len(chosen.studies) == self.studies:
                    document = extended(
                        before,
                        scanner,
                        chosen,
                        model_sha256=model,
                        version=calibrations.next_version(session),
                        now=now,
                    )
                    log.info("calibration proposed", scanner=scanner.label, studies=self.studies)
                    return calibrations.propose(
                        session, document, origin=Origin.COMMISSIONING, actor=ACTOR, scanner=scanner.key
                    )
        return None


def by_scanner(counts: tuple[GroupCount, ...]) -> dict[Group, list[GroupCount]]:
    """Narrowest groups, by the scanner they are of."""
    found: dict[Group, list[GroupCount]] = {}
    for count in counts:
        found.setdefault(count.group.scanner, []).append(count)
    return found


def extended(
    before: CalibrationDocument | None,
    scanner: Group,
    chosen: Chosen,
    *,
    model_sha256: str,
    version: int,
    now: datetime,
) -> CalibrationDocument:
    """The document in force with the studies of one scanner in place of those it had.

    Parameters
    ----------
    before : CalibrationDocument or None
        None: the new document knows this scanner alone, and all others are uncalibrated by it.
    scanner : Group
    chosen : Chosen
        At least one study.
    model_sha256 : str
    version : int
    now : datetime
    """
    kept = [] if before is None else [one for one in before.strata if one.group.scanner != scanner]
    rules = {} if before is None else before.model_dump(include={"least", "pixel_rate"})
    days = " to ".join(f"{at:%Y-%m-%d}" for at in (chosen.first_at, chosen.last_at) if at is not None)
    return CalibrationDocument(
        version=version,
        model_sha256=model_sha256,
        made_on=now.astimezone(UTC).date(),
        author=ACTOR,
        reason=f"{len(chosen.studies)} consecutive studies of {scanner.label}, {days}; "
        f"left out: {chosen.findings} with a finding, {chosen.same_person} of a person who is in it",
        replaces=None if before is None else before.sha256,
        alike=BY_SCANNER if before is None else before.alike,
        strata=(*kept, *strata_of(chosen.studies)),
        **rules,
    )


def rescore_calibrated(
    session: Session, known: Calibrations, admission: Admission, *, actor: str
) -> Rescored:
    """Score again the uncalibrated studies for which there is a reference now, oldest first."""
    model = admission.model_hash()
    in_force = known.in_force(session, model)
    waiting = [
        count
        for count in scanners.count_groups(session, model, since=BEGINNING, bands=WAITING)
        if count.uncalibrated
    ]
    ready = [
        count
        for count in waiting
        if has_reference(in_force.calibrated, count.group, model)
        and not in_force.withdrawn.holds(count.group)
    ]
    keys = scanners.uncalibrated(session, model, groups=[count.group for count in ready], most=MOST_RESCORED)
    queued = sum(rescore(session, key, actor=actor, admission=admission).scores for key in keys)
    left = sum(count.uncalibrated for count in waiting) - sum(count.uncalibrated for count in ready)
    return Rescored(queued=queued, left=left)


def has_reference(calibrated: SiteCalibration, group: Group, model_sha256: str) -> bool:
    """Whether studies of a group have somebody to be compared with."""
    try:
        calibrated.reference(group, model_sha256)
    except NotAssessableError:
        return False
    return True


def _is_open(one: Calibration, before: CalibrationDocument | None) -> bool:
    """Whether a person has this proposal to decide about, and it still fits what is in force."""
    replaced = None if before is None else before.sha256
    return one.state is CalibrationState.PROPOSED and one.scanner is not None and one.before == replaced


def _decided(
    history: list[Calibration], before: CalibrationDocument | None, scanner: Group
) -> Iterator[datetime]:
    """When somebody decided about a scanner: only what came since then makes its next reference."""
    is_known = before is not None and before.reference(scanner) is not None
    for one in history:
        is_about_it = one.scanner == scanner.key or (is_known and one.state is CalibrationState.ACCEPTED)
        if is_about_it and one.decided_at is not None:
            yield one.decided_at
