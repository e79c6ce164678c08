"""From spool to job: arrivals become rows, a quiet study becomes a revision with a job.

The spool is the truth (I1): this loop only reads it, so it may die at any point and start again from
nothing. The receiver never waits for it (I6).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

import structlog
from sqlalchemy.orm import Session

from dicom_node.identity import result_series_uid, series_key
from dicom_node.signals import Signals
from dicom_node.spool import Spool
from service import announce, arriving, urgency
from service.admission import Admission
from service.completeness import Evidence, Trigger, decide
from service.conflicts import Conflicts
from service.engine import DATABASE_AWAY, is_away
from service.inquiry import Inquiry
from service.meters import NodeMeters
from service.ordering import ordered_before
from service.store import Store, audit, cohorts, dicom_index, identities, keeping, packs, reports, studies
from service.store.cohorts import Membership
from service.store.studies import Arrival, PendingStudy
from service.study import ENDED, PATIENT_CONFLICT, Priority, Whereabouts
from service.traces import NO_TRACES, Traces
from service.wholes import Wholes

ACTOR = "node"
# File systems stamp folders in ticks of some milliseconds: a folder this young may change under its stamp.
SETTLED_NS = 2_000_000_000
REST_NS = 60_000_000_000  # before a study that could not be taken in is tried again
SWEEP_S = 86_400.0  # between two looks for messages that concern nobody any more
FOLDERS = 200  # of the spool asked about at a time
BATCH = 200  # instances registered in one transaction, so that a huge study shows progress

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Intake:
    """Watches the spool and queues complete studies.

    Attributes
    ----------
    store : Store
    spool : Spool
    model_hash : str
        What new jobs are queued for.
    config_digest : callable
        Given the transaction and the model: of everything besides it that shapes a result.
    follow : callable, optional
        The model hash of now, asked before every step.
    quiet_s : callable
        Sender's AE title to its quiet period in seconds.
    signals : Signals, optional
        What peers told the receiver about studies.
    inquiry : Inquiry, optional
        What archives and worklists answer about studies.
    longest_wait_s : float
        How long a quiet study waits for what was announced.
    is_packing : bool
        A complete study waits for its pack, and the job comes with that; else it is queued at once.
    meters : NodeMeters, optional
    traces : Traces
    """

    store: Store
    spool: Spool
    model_hash: str
    config_digest: Callable[[Session, str], str]
    quiet_s: Callable[[str], float]
    signals: Signals | None = None
    inquiry: Inquiry | None = None
    longest_wait_s: float = 900.0
    is_packing: bool = False
    follow: Callable[[], str] | None = None
    meters: NodeMeters | None = None
    traces: Traces = NO_TRACES
    _seen: dict[str, int] = field(default_factory=dict)
    _rests_until: dict[str, int] = field(default_factory=dict)
    _sweep_at: float = 0.0
    _conflicts: Conflicts = field(init=False)

    def __post_init__(self) -> None:
        self._conflicts = Conflicts(store=self.store, spool=self.spool)

    def step(self, now: datetime) -> None:
        """Register what arrived and queue what is complete.

        Parameters
        ----------
        now : datetime
            Aware.
        """
        if self.follow is not None:
            self.model_hash = self.follow()
        if self.signals is not None and time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_S
            self.signals.sweep()
        try:
            self._register_arrivals()
            self._conflicts.step()
            self._queue_complete(now)
        except DATABASE_AWAY:
            # What comes back may be a replica that lacks the last rows: look at every study again.
            self._seen.clear()
            self._conflicts.forget()
            raise

    def _register_arrivals(self) -> None:
        now = time.time_ns()
        due = (
            (key, changed_ns)
            for key, changed_ns in self.spool.studies()
            if self._seen.get(key) != changed_ns and self._rests_until.get(key, 0) <= now
        )
        while folders := dict(islice(due, FOLDERS)):
            keys = sorted(folders)
            with self.store.transaction() as session:
                known = studies.known_files(session, keys)
                places = keeping.whereabouts(session, keys)
                unnamed = identities.lacking(session, keys)
                members = cohorts.memberships(session, keys)
            taken = frozenset[str]() if self.is_packing else self._take_whole(members, known)
            for key in keys:
                if places.get(key) is Whereabouts.DELETING:
                    continue  # what came meanwhile is new once that has ended; until then looked at again
                member = members.get(key)
                if member is not None and member.is_claimed and not known[key]:
                    continue  # somebody is copying it
                with self._alone(key):
                    if key not in taken:
                        self._register(key, known[key], is_unnamed=key in unnamed, is_member=bool(member))
                    if time.time_ns() - folders[key] > SETTLED_NS:
                        self._seen[key] = folders[key]

    def _take_whole(
        self, members: Mapping[str, Membership], known: Mapping[str, frozenset[str]]
    ) -> frozenset[str]:
        """Take studies of cohorts that are new and whole, together; whatever fails is taken one by one."""
        whole = {
            key: member.instances
            for key, member in members.items()
            if member.instances is not None and not known[key]
        }
        try:
            return self._wholes().take(whole)
        except Exception as error:
            if is_away(error):
                raise
            log.exception("studies of a cohort cannot be taken together: each is taken alone")
            return frozenset()

    def _wholes(self) -> Wholes:
        return Wholes(store=self.store, spool=self.spool, admission=self._admission(), meters=self.meters)

    def _admission(self) -> Admission:
        return Admission(model_hash=lambda: self.model_hash, config_digest=self.config_digest)

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Let one bad study fail alone: it is told, and tried again after a rest."""
        try:
            yield
        except Exception as error:
            if is_away(error):
                raise
            self._rests_until[key] = time.time_ns() + REST_NS
            log.exception("study cannot be taken in", study=key)

    def _register(self, key: str, known: frozenset[str], *, is_unnamed: bool, is_member: bool) -> None:
        here = self.spool.instances(key)  # after what is known: whoever clears the folder changes rows first
        if self.is_packing and here:
            with self.store.transaction() as session:
                packs.came_again(session, key)
        new = [instance for instance in here if instance.file_name not in known]
        if is_unnamed and not new and here:  # registered before there was a table of identities
            new = here[:1]
        for start in range(0, len(new), BATCH):
            found = [arriving.read(instance) for instance in new[start : start + BATCH]]
            with self.store.transaction() as session:
                ours = arriving.ours_among(session, found, self.model_hash)
                arrivals = arriving.arrivals_of(found, ours, self.spool.key_of)
                outcome = studies.register(
                    session,
                    key,
                    arrivals,
                    priority=Priority.SCREENING if is_member else Priority.ROUTINE,
                )
                for one, arrival in zip(found, arrivals, strict=True):
                    if one.header is not None and not arrival.is_own:
                        identities.note(session, key, identities.stated(one.header))
                        break  # the others say the same, or the study gets its flag
                dicom_index.note_received(
                    session, key, {one.instance.file_name: one.listing for one in found if one.listing}
                )
                if outcome.is_new:
                    audit.append(
                        session, "study.received", actor=ACTOR, study_key=key, sender=arrivals[0].sender
                    )
                if outcome.is_flagged:
                    audit.append(
                        session,
                        "study.flagged",
                        actor=ACTOR,
                        study_key=key,
                        flag=PATIENT_CONFLICT,
                    )
            self._count(arrivals)
            if outcome.is_new:
                log.info("study received", study=key)
            if outcome.is_flagged:
                log.error("instances of one study name two patients", study=key)

    def _count(self, arrivals: Sequence[Arrival]) -> None:
        if self.meters is not None:
            self.meters.registered(len(arrivals), sum(arrival.bytes for arrival in arrivals))

    def _queue_complete(self, now: datetime) -> None:
        with self.store.transaction() as session:
            waiting = studies.pending(session)
            members = cohorts.memberships(session, [study.key for study in waiting]) if waiting else {}
        open_senders = self.signals.open_senders() if self.signals and waiting else frozenset()
        for study in waiting:
            if self._rests_until.get(study.key, 0) <= time.time_ns():
                with self._alone(study.key):
                    member = members.get(study.key)
                    expected = member.instances if member else None
                    trigger = decide(self._evidence(study, open_senders, now, expected))
                    if trigger is not None:
                        self._queue(study, trigger, now)

    def _evidence(
        self, study: PendingStudy, open_senders: frozenset[str], now: datetime, expected: int | None
    ) -> Evidence:
        signals = self.signals.of(study.key) if self.signals else ()
        counts = self.inquiry.counts(study.key) if self.inquiry else None
        held: dict[str, str] = {}
        own: frozenset[str] = frozenset()
        if signals or counts or expected:  # without any the set of instances says nothing about completeness
            with self.store.transaction() as session:
                held = studies.held(session, study.key)
                own = frozenset(
                    series_key(result_series_uid(uid)) for uid in studies.own_results(session, study.key)
                )
        return Evidence(
            now=now,
            last_instance_at=study.last_instance_at,
            quiet_s=max(self.quiet_s(sender) for sender in study.senders),
            longest_wait_s=self.longest_wait_s,
            is_sender_open=any(sender in open_senders for sender in study.senders),
            held=held,
            signals=signals,
            expected=expected,
            archive=None
            if counts is None
            else {series: count for series, count in counts.items() if series not in own},
        )

    def _queue(self, study: PendingStudy, trigger: Trigger, now: datetime) -> None:
        """Study revision, job and audit row in one transaction (I5)."""
        key = study.key
        asked = self.inquiry.priority(key) if self.inquiry else None
        with self.store.transaction() as session:
            urgent = max(filter(None, (asked, ordered_before(session, key, self.spool.key_of))), default=None)
            if urgent is not None:
                urgency.raise_priority(session, key, urgent, actor=ACTOR)
            before = reports.newest_report(session, key)
            revision = studies.complete(session, key, completed_by=trigger, now=now)
            cohorts.taken(session, [key])
            if revision is None:
                return
            if before is not None and before.is_current and before.state in ENDED:
                announce.announce_superseded(session, before)
            if self.is_packing:
                packs.want(session, revision.id)
                audit.append(session, "study.completed", actor=ACTOR, study_key=key, revision=revision.number)
            else:
                self._admission().admit(session, key, revision, completed_by=trigger.value, now=now)
        log.info("study complete", study=key, revision=revision.number, completed_by=trigger.value)
        if self.meters is not None:
            self.meters.completed(trigger.value)
        is_first = revision.number == 1
        begun = study.received_at if is_first else study.last_instance_at
        self.traces.tell(
            "receive",
            key,
            begun=begun,
            ended=max(begun, now),
            is_first=is_first,
            revision=revision.number,
            completed_by=trigger.value,
        )
