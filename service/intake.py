"""From spool to job: arrivals become rows, a quiet study becomes a revision with a job.

The spool is the truth (I1): this loop only reads it, so it may die at any point and start again from
nothing. The receiver never waits for it (I6).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from sqlalchemy.orm import Session

from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import device_uid, result_series_uid, series_key
from dicom_node.keys import ReceivedHeader
from dicom_node.signals import Signals
from dicom_node.spool import Spool, SpooledInstance
from dicom_node.web.listing import Listing, listing_of
from service import announce, urgency
from service.admission import Admission
from service.completeness import Evidence, Trigger, decide
from service.engine import DATABASE_AWAY
from service.inquiry import Inquiry
from service.ordering import ordered_before
from service.store import Store, audit, dicom_index, identities, packs, reports, studies
from service.store.studies import Arrival, PendingStudy
from service.study import ENDED, PATIENT_CONFLICT

ACTOR = "node"
# File systems stamp folders in ticks of some milliseconds: a folder this young may change under its stamp.
SETTLED_NS = 2_000_000_000
REST_NS = 60_000_000_000  # before a study that could not be taken in is tried again
SWEEP_S = 86_400.0  # between two looks for messages that concern nobody any more
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
    _seen: dict[str, int] = field(default_factory=dict)
    _rests_until: dict[str, int] = field(default_factory=dict)
    _sweep_at: float = 0.0

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
            self._queue_complete(now)
        except DATABASE_AWAY:
            # What comes back may be a replica that lacks the last rows: look at every study again.
            self._seen.clear()
            raise

    def _register_arrivals(self) -> None:
        for key, changed_ns in self.spool.studies():
            if self._seen.get(key) == changed_ns or self._rests_until.get(key, 0) > time.time_ns():
                continue
            with self._alone(key):
                self._register(key)
                if time.time_ns() - changed_ns > SETTLED_NS:
                    self._seen[key] = changed_ns

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Let one bad study fail alone: it is told, and tried again after a rest."""
        try:
            yield
        except DATABASE_AWAY:
            raise
        except Exception:
            self._rests_until[key] = time.time_ns() + REST_NS
            log.exception("study cannot be taken in", study=key)

    def _register(self, key: str) -> None:
        with self.store.transaction() as session:
            known = studies.known_files(session, key)
            is_unnamed = identities.is_lacking(session, key)
        here = self.spool.instances(key)  # after what is known: whoever clears the folder changes rows first
        if self.is_packing and here:
            with self.store.transaction() as session:
                packs.came_again(session, key)
        new = [instance for instance in here if instance.file_name not in known]
        if is_unnamed and not new and here:  # registered before there was a table of identities
            new = here[:1]
        for start in range(0, len(new), BATCH):
            found = [_read(instance) for instance in new[start : start + BATCH]]
            with self.store.transaction() as session:
                uids = [one.header.sop_instance_uid for one in found if one.header is not None]
                own = studies.own_results_among(session, uids)
                devices = frozenset(
                    device_uid(model) for model in studies.known_models(session) | {self.model_hash}
                )
                arrivals = [self._arrival(one, own, devices) for one in found]
                outcome = studies.register(session, key, arrivals)
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
            if outcome.is_new:
                log.info("study received", study=key)
            if outcome.is_flagged:
                log.error("instances of one study name two patients", study=key)

    def _queue_complete(self, now: datetime) -> None:
        with self.store.transaction() as session:
            waiting = studies.pending(session)
        open_senders = self.signals.open_senders() if self.signals and waiting else frozenset()
        for study in waiting:
            if self._rests_until.get(study.key, 0) <= time.time_ns():
                with self._alone(study.key):
                    trigger = decide(self._evidence(study, open_senders, now))
                    if trigger is not None:
                        self._queue(study.key, trigger, now)

    def _evidence(self, study: PendingStudy, open_senders: frozenset[str], now: datetime) -> Evidence:
        signals = self.signals.of(study.key) if self.signals else ()
        counts = self.inquiry.counts(study.key) if self.inquiry else None
        held: dict[str, str] = {}
        own: frozenset[str] = frozenset()
        if signals or counts:  # without either the set of instances says nothing about completeness
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
            archive=None
            if counts is None
            else {series: count for series, count in counts.items() if series not in own},
        )

    def _queue(self, key: str, trigger: Trigger, now: datetime) -> None:
        """Study revision, job and audit row in one transaction (I5)."""
        asked = self.inquiry.priority(key) if self.inquiry else None
        with self.store.transaction() as session:
            urgent = max(filter(None, (asked, ordered_before(session, key, self.spool.key_of))), default=None)
            if urgent is not None:
                urgency.raise_priority(session, key, urgent, actor=ACTOR)
            before = reports.newest_report(session, key)
            revision = studies.complete(session, key, completed_by=trigger, now=now)
            if revision is None:
                return
            if before is not None and before.is_current and before.state in ENDED:
                announce.announce_superseded(session, before)
            if self.is_packing:
                packs.want(session, revision.id)
                audit.append(session, "study.completed", actor=ACTOR, study_key=key, revision=revision.number)
            else:
                Admission(model_hash=lambda: self.model_hash, config_digest=self.config_digest).admit(
                    session, key, revision, completed_by=trigger.value, now=now
                )
        log.info("study complete", study=key, revision=revision.number, completed_by=trigger.value)

    def _arrival(self, found: "_Found", own: frozenset[str], devices: frozenset[str]) -> Arrival:
        header = found.header
        return Arrival(
            file_name=found.instance.file_name,
            sha256=found.sha256,
            bytes=found.instance.size_bytes,
            sop_class_uid=header.sop_class_uid if header else "",
            # An archive may rewrite what marks an object as ours: one mark that it left is enough.
            is_own=header is not None
            and (
                header.is_own or header.sop_instance_uid in own or not devices.isdisjoint(header.device_uids)
            ),
            sender=header.sender if header else "",
            received_at=datetime.fromtimestamp(found.instance.mtime_ns / 1e9, UTC),
            modality=header.modality if header else "",
            description=header.study_description if header else "",
            series=series_key(header.series_uid) if header else "",
            patient=self._pseudonyms(header.patient) if header else "",
        )

    def _pseudonyms(self, patient: tuple[str, ...]) -> str:
        """What says who the patient is, as marks that can be compared and not read."""
        marks = [
            self.spool.key_of(f"patient {number} {value}") if value else ""
            for number, value in enumerate(patient)
        ]
        return ".".join(marks) if any(marks) else ""


@dataclass(frozen=True, slots=True)
class _Found:
    """One file of the spool with what it says; neither where the disk damaged it after it was received."""

    instance: SpooledInstance
    header: ReceivedHeader | None
    sha256: str
    listing: Listing | None = None


def _read(instance: SpooledInstance) -> _Found:
    try:
        with instance.path.open("rb") as file:
            listing = listing_of(file)
        return _Found(instance, instance.header(), instance.sha256(), listing)
    except (UnreadableInstanceError, OSError):
        log.exception("instance damaged on disk", study=instance.path.parent.name, file=instance.file_name)
        return _Found(instance, None, "")
