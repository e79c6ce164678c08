"""What goes, what never goes, and what a kill in the middle leaves (I11)."""

import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import literal_column, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from dicom_node.identity import series_key
from dicom_node.quota import Quota
from dicom_node.spool import Spool
from dicom_node.withdrawn import Withdrawn
from models.catalogue import active_artefact
from models.predictor import Predictor
from service.cli import app
from service.errors import (
    DeletingElsewhereError,
    InstancesMissingError,
    SettingsError,
    StorageAwayError,
    StudyDeletedError,
    UnknownStudyError,
)
from service.replay import replay
from service.retention import LOCK, Removed, Retention
from service.settings import load_settings
from service.storage.folder import FolderStore
from service.store import Store, cohorts, identities, keeping, referrals, revival
from service.store.census import take_census
from service.store.detail import study_detail
from service.store.objects import ResultFolder, ResultStore
from service.store.tables import (
    CohortStudyRow,
    DeliveryRow,
    InstanceRow,
    ReferralRow,
    RevisionRow,
    ScoreRow,
    ShadowScoreRow,
    StudyRow,
)
from service.study import (
    STUDY_DELETED,
    DeliveryStatus,
    ReferralState,
    RetractionState,
    State,
    Whereabouts,
)
from tests.ordered import ordered
from tests.phantoms import Phantom, write
from tests.service.test_packing import LATER, NOON, PHANTOM, Killed, Machines

pytestmark = pytest.mark.postgres

DAY = timedelta(days=1)
IN_A_WEEK = LATER + 7 * DAY


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(active_artefact())


@pytest.fixture
def machines(store: Store, tmp_path: Path, predictor: Predictor) -> Machines:
    """A study that has ended *not assessable*, its one report delivered where no confirmation is asked."""
    made = Machines(store, tmp_path, predictor, FolderStore(tmp_path / "share"))
    finish(made)
    deliver(store)
    return made


def finish(machines: Machines, *, slices: slice = slice(None)) -> None:
    machines.receive(slices=slices)
    machines.intake._seen.clear()
    machines.complete()
    machines.packing.step(NOON)
    assert machines.work() == []


def deliver(store: Store, status: DeliveryStatus = DeliveryStatus.DELIVERED, **columns: object) -> None:
    error = "refused" if status is DeliveryStatus.UNDELIVERED else ""
    values = {"status": status, "ended_at": NOON, "error": error} | columns
    with store.transaction() as session:
        session.execute(update(DeliveryRow).values(**values))


def back_in_the_queue(session: Session) -> None:
    """The study as if it had not ended, by the moves there are."""
    for state in ("complete", "queued"):
        session.execute(
            text("UPDATE vigil.study SET state = :state, reason = NULL, ended_at = NULL"), {"state": state}
        )


def retention(
    machines: Machines,
    *,
    states: Sequence[State] = (State.SCORED, State.NOT_ASSESSABLE, State.FAILED),
    quarantine_age: timedelta | None = None,
) -> Retention:
    return Retention(
        store=machines.store,
        spool=machines.spool,
        objects=machines.objects,
        results=ResultStore(
            machines.objects, machines.scratch, ResultFolder(machines.folder / "node" / "results")
        ),
        ages=dict.fromkeys(states, DAY),
        quarantine_age=quarantine_age,
    )


def received(machines: Machines) -> list[Path]:
    return sorted((machines.folder / "node" / "spool").glob("*/*.dcm"))


def test_a_confirmed_study_past_its_age_goes_with_everything_and_its_rows_stay(machines: Machines) -> None:
    size = sum(path.stat().st_size for path in received(machines))
    with machines.store.transaction() as session:
        assert not identities.lacking(session, [machines.study().key])

    removed = retention(machines).run(IN_A_WEEK)

    assert (removed.studies, removed.bytes) == (1, size)
    assert received(machines) == machines.packs() == machines.results() == []
    study = machines.study()
    assert (study.state, study.bytes_are) == (State.NOT_ASSESSABLE, Whereabouts.DELETED)
    with machines.store.transaction() as session:
        assert identities.lacking(session, [study.key])
    assert machines.actions()[-2:] == ["study.deleting", "study.deleted"]
    with machines.store.transaction() as session:
        proof = next(
            event
            for event in study_detail(session, machines.key).timeline
            if event.action == "study.deleting"
        ).detail
    assert (proof["deliveries"], proof["rule_days"], proof["bytes"]) == ({"delivered": 1}, 1.0, size)


@dataclass(frozen=True, slots=True)
class Watched:
    """Results, which say how many transactions are open and idle while they are removed."""

    objects: ResultStore
    store: Store
    idle: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objects, name)

    def remove_all(self, study_key: str) -> None:
        with self.store.transaction() as session:
            self.idle.append(
                session.scalar(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND state LIKE 'idle in transaction%'"
                    )
                )
            )
        self.objects.remove_all(study_key)


def test_a_long_deletion_leaves_no_transaction_idle(machines: Machines) -> None:
    """The database ends such a one after half a minute, and the lock with it."""
    watching = retention(machines)
    watched = Watched(watching.results, machines.store, [])
    watching.results = watched

    assert watching.run(IN_A_WEEK).studies == 1

    assert watched.idle == [0]


def test_results_that_no_row_knows_go_too(machines: Machines) -> None:
    """As an attempt leaves them that a late instance made pointless, or a kill in the middle of writing."""
    machines.objects.put(f"results/{machines.key}/superseded.dcm", [b"identity"])
    before = machines.folder / "node" / "results" / machines.key
    before.mkdir(parents=True)
    (before / "cut off.part").write_bytes(b"identity")
    machines.objects.put("results/another/a.dcm", [b"stays"])

    retention(machines).run(IN_A_WEEK)

    assert [path.name for path in machines.results()] == ["a.dcm"]
    assert not before.exists()


def test_deleting_twice_deletes_once(machines: Machines) -> None:
    retention(machines).run(IN_A_WEEK)

    assert retention(machines).run(IN_A_WEEK).studies == 0
    assert machines.actions().count("study.deleted") == 1


def test_nothing_goes_where_no_age_is_set(machines: Machines) -> None:
    assert retention(machines, states=()).run(IN_A_WEEK).studies == 0
    assert len(received(machines)) == 6


def test_an_age_is_of_one_state(machines: Machines) -> None:
    assert retention(machines, states=(State.SCORED,)).run(IN_A_WEEK).studies == 0


def test_a_study_within_its_age_stays(machines: Machines) -> None:
    study = machines.study()
    assert study.ended_at is not None

    assert retention(machines).run(study.ended_at + DAY - timedelta(seconds=1)).studies == 0
    assert retention(machines).run(study.ended_at + DAY + timedelta(seconds=1)).studies == 1


@pytest.mark.parametrize(
    ("status", "columns", "why"),
    [
        (DeliveryStatus.WAITING, {"ended_at": None}, "unconfirmed"),
        (DeliveryStatus.UNDELIVERED, {}, "unconfirmed"),
        (DeliveryStatus.DELIVERED, {"ended_at": None}, "unconfirmed"),  # its confirmation is under way
        (DeliveryStatus.DELIVERED, {"fallback": "confirmation_timeout"}, "unconfirmed"),
        (DeliveryStatus.DELIVERED, {"fallback": "confirmation_not_offered"}, "unconfirmed"),
        (DeliveryStatus.STORED, {"fallback": "commitment_timeout"}, None),
        (DeliveryStatus.STORED, {}, None),
        (DeliveryStatus.DELIVERED, {}, None),
    ],
)
def test_only_confirmed_results_let_a_study_go(
    machines: Machines, status: DeliveryStatus, columns: dict[str, object], why: str | None
) -> None:
    deliver(machines.store, status, **columns)
    with machines.store.transaction() as session:
        (told,) = keeping.past_age(session, {State.NOT_ASSESSABLE: DAY}, now=IN_A_WEEK, limit=9)

    assert told.why == why
    assert retention(machines).run(IN_A_WEEK).studies == (why is None)
    assert bool(received(machines)) == (why is not None)


def test_every_destination_counts(machines: Machines) -> None:
    with machines.store.transaction() as session:
        (row,) = session.scalars(select(DeliveryRow)).all()
        session.add(
            DeliveryRow(
                result_id=row.result_id,
                destination="second",
                status=DeliveryStatus.UNDELIVERED,
                error="refused",
                ended_at=NOON,
            )
        )

    assert retention(machines).run(IN_A_WEEK).studies == 0


def test_results_that_were_sent_nowhere_are_not_confirmed(machines: Machines) -> None:
    with machines.store.transaction() as session:
        session.execute(text("DELETE FROM vigil.delivery"))
        (told,) = keeping.past_age(session, {State.NOT_ASSESSABLE: DAY}, now=IN_A_WEEK, limit=9)

    assert told.why == "unsent"
    assert retention(machines).run(IN_A_WEEK).studies == 0


def test_a_failed_study_waits_for_a_person(machines: Machines) -> None:
    with machines.store.transaction() as session:
        back_in_the_queue(session)
        session.execute(
            text("UPDATE vigil.study SET state = 'failed', reason = 'attempts_used_up', ended_at = :at"),
            {"at": NOON},
        )
    assert retention(machines).run(IN_A_WEEK).studies == 0

    with machines.store.transaction() as session:
        keeping.waive(session, machines.key, "phantom")

    assert retention(machines).run(IN_A_WEEK).studies == 1


def test_a_waiver_lets_go_what_never_arrived_but_not_before_its_age(machines: Machines) -> None:
    deliver(machines.store, DeliveryStatus.UNDELIVERED)
    with machines.store.transaction() as session:
        keeping.waive(session, machines.key, "the archive is gone")

    assert retention(machines).run(datetime.now(UTC)).studies == 0
    assert retention(machines).run(IN_A_WEEK).studies == 1


def test_a_hold_stops_everything_until_it_is_released(machines: Machines) -> None:
    with machines.store.transaction() as session:
        keeping.waive(session, machines.key, "waived")
        keeping.hold(session, machines.key, "court")
        (told,) = keeping.past_age(session, {State.NOT_ASSESSABLE: DAY}, now=IN_A_WEEK, limit=9)
    assert told.why == "held"
    assert retention(machines).run(IN_A_WEEK).studies == 0

    with machines.store.transaction() as session:
        keeping.hold(session, machines.key, None)

    assert retention(machines).run(IN_A_WEEK).studies == 1


def test_a_finding_that_somebody_is_to_look_after_keeps_the_study_whatever_was_waived(
    machines: Machines,
) -> None:
    due = (NOON + timedelta(days=2)).date()
    with machines.store.transaction() as session:
        keeping.waive(session, machines.key, "waived")
        referrals.report(session, machines.key, due=due, note="nodule", actor="ada")
        cohort = cohorts.begin(session, name="spring", source="s", q=0.1, actor="ada")
        cohorts.want(session, cohort.id, [machines.key])
        revision = session.scalars(select(RevisionRow)).one()
        session.add(ShadowScoreRow(revision_id=revision.id, model_hash="m"))
        (told,) = keeping.past_age(session, {State.NOT_ASSESSABLE: DAY}, now=IN_A_WEEK, limit=9)
    assert told.why == "referred"
    assert retention(machines).run(IN_A_WEEK).studies == 0

    for state in (ReferralState.REVIEWED, ReferralState.CLOSED):
        with machines.store.transaction() as session:
            referrals.change(
                session, machines.key, 1, state=state, due=due, note="", actor="ada", versions=None
            )

    assert retention(machines).run(IN_A_WEEK).studies == 1
    assert received(machines) == []
    with machines.store.transaction() as session:
        kept = session.scalars(select(ReferralRow.note).order_by(ReferralRow.version)).all()
        assert kept == ["nodule", "", ""]  # what became of it outlives the images
        assert session.scalars(select(CohortStudyRow.study_key)).all() == [machines.key]
        assert len(session.scalars(select(ShadowScoreRow)).all()) == 1


def test_a_study_whose_earlier_results_are_to_be_taken_back_stays_whatever_was_waived(
    machines: Machines,
) -> None:
    """The report that takes them back is made of an earlier one, which would go with the study."""
    with machines.store.transaction() as session:
        session.execute(update(ScoreRow).values(retraction=RetractionState.WANTED))
        keeping.waive(session, machines.key, "phantom")

    assert retention(machines).run(IN_A_WEEK).studies == 0
    with machines.store.transaction() as session:
        (told,) = keeping.past_age(session, {State.NOT_ASSESSABLE: DAY}, now=IN_A_WEEK, limit=9)
        assert told.why == keeping.UNCONFIRMED
        session.execute(update(ScoreRow).values(retraction=RetractionState.MADE))
    assert retention(machines).run(IN_A_WEEK).studies == 1


def test_results_that_could_not_be_taken_back_keep_a_study_and_their_alert_until_somebody_waives_them(
    machines: Machines,
) -> None:
    with machines.store.transaction() as session:
        session.execute(update(ScoreRow).values(retraction=RetractionState.FAILED))
        assert take_census(session).not_retracted == 1

    assert retention(machines).run(IN_A_WEEK).studies == 0
    with machines.store.transaction() as session:
        keeping.waive(session, machines.key, "taken out of the archive by hand")
        assert take_census(session).not_retracted == 0
    assert retention(machines).run(IN_A_WEEK).studies == 1


def test_what_is_sent_again_while_it_is_asked_about_is_not_decided_by_what_was_before(
    machines: Machines,
) -> None:
    """The question is held open by a lock that its time waits for, and a person has all sent again."""
    store = machines.store
    waits = text(
        "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted)"
    )
    held = literal_column(f"(SELECT timestamptz '2099-01-01' FROM pg_advisory_lock_shared({LOCK}))")  # noqa: S608 - a number

    def decide() -> None:
        with store.transaction() as session:
            keeping.begin(session, machines.key, {State.NOT_ASSESSABLE: DAY}, now=held)  # type: ignore[arg-type]

    with (
        store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as gate,
        ThreadPoolExecutor(1) as pool,
    ):
        gate.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        deciding = pool.submit(decide)
        try:
            looks = (gate.scalar(waits) or threading.Event().wait(0.02) for _ in range(3000))
            assert any(looks)
            with suppress(OperationalError), store.transaction() as session:  # decided before: it waits
                session.execute(text("SET LOCAL lock_timeout = '1s'"))
                revival.send_again(session, machines.key, destination=None)
        finally:
            gate.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
        deciding.result(60)

    with store.transaction() as session:
        is_waiting = session.scalars(select(DeliveryRow.status)).one() is DeliveryStatus.WAITING
    assert (machines.study().bytes_are is Whereabouts.HERE) is is_waiting


def test_a_study_that_still_arrives_stays(machines: Machines) -> None:
    with machines.store.transaction() as session:
        session.execute(text("UPDATE vigil.study SET is_pending = true"))

    assert retention(machines).run(IN_A_WEEK).studies == 0


def test_one_process_deletes_at_a_time(machines: Machines) -> None:
    with machines.store.engine.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        with pytest.raises(DeletingElsewhereError, match="Try again"):
            retention(machines).run(IN_A_WEEK)
        retention(machines).step(IN_A_WEEK)  # to the node that is no failure
        assert machines.study().bytes_are is Whereabouts.HERE
        other.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})

    assert retention(machines).run(IN_A_WEEK).studies == 1


@pytest.mark.parametrize("at", [*range(3), *range(6, 12), 14, *range(16, 20)])
def test_killed_at_any_step_a_deletion_is_ended_and_told_once(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Die before the n-th thing that is removed or written; the next start ends it."""
    calls = 0

    def dying(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls > at:
                raise Killed
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, call)

    with monkeypatch.context() as monkeypatch:  # noqa: PLR1704 - undone at the end of the block
        dying(Path, "unlink")
        dying(Path, "rename")
        dying(FolderStore, "remove")
        dying(FolderStore, "remove_all")
        dying(Retention, "_begin")
        dying(Retention, "_end")
        monkeypatch.setattr("service.retention.keeping.end", _dying_end(lambda: at, lambda: calls))
        with suppress(Killed):
            retention(machines).run(IN_A_WEEK)

    retention(machines).run(IN_A_WEEK)

    assert received(machines) == machines.packs() == machines.results() == []
    assert machines.study().bytes_are is Whereabouts.DELETED
    assert [machines.actions().count(action) for action in ("study.deleting", "study.deleted")] == [1, 1]


def _dying_end(at: object, calls: object) -> object:
    def end(session: object, key: str) -> bool:
        if calls() >= at():  # type: ignore[operator] - both are counters
            raise Killed
        return _END(session, key)  # type: ignore[arg-type] - handed through

    return end


_END = keeping.end


def test_an_instance_that_comes_while_it_is_deleted_is_kept_and_makes_a_revision(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender heard success for it: one file of the study again, and one that nobody had seen."""
    with monkeypatch.context() as patch:

        def die(*_: object) -> None:
            raise Killed

        patch.setattr(ResultStore, "remove_all", die)
        with pytest.raises(Killed):
            retention(machines).run(datetime.now(UTC) + 7 * DAY)  # all its received files are gone
    assert machines.study().bytes_are is Whereabouts.DELETING
    machines.receive(slices=slice(0, 1))
    machines.intake._seen.clear()
    machines.complete()
    assert machines.study().bytes_are is Whereabouts.DELETING  # no revision before the deletion has ended

    retention(machines, states=()).run(IN_A_WEEK)
    assert len(received(machines)) == 1

    machines.complete()
    assert machines.study().bytes_are is Whereabouts.HERE
    machines.packing.step(NOON)
    assert machines.work() == []
    assert [revision.number for revision in machines.revisions()] == [1, 2]
    assert machines.study().state is State.NOT_ASSESSABLE


@dataclass(frozen=True, slots=True)
class StoreIsAway:
    """A store that removes nothing."""

    objects: FolderStore

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objects, name)

    def remove(self, name: str) -> None:
        raise StorageAwayError(name)


def test_a_study_sent_again_while_its_deletion_waits_for_the_store_is_new(machines: Machines) -> None:
    waiting = retention(machines)
    waiting.objects = StoreIsAway(machines.objects)
    with pytest.raises(StorageAwayError):
        waiting.run(IN_A_WEEK)
    assert machines.study().bytes_are is Whereabouts.DELETING
    assert received(machines) == []

    machines.receive()  # the sender hears success
    sent = received(machines)
    for path in (*sent, sent[0].parent):
        os.utime(path, (NOON.timestamp(), NOON.timestamp()))  # the log dates them before the decision
    machines.complete()
    assert retention(machines, states=()).run(IN_A_WEEK).studies == 1

    assert received(machines) == sent
    machines.complete()
    assert machines.study().bytes_are is Whereabouts.HERE
    assert not machines.study().is_pending
    with machines.store.transaction() as session:
        assert len(session.scalars(select(InstanceRow).where(~InstanceRow.is_deleted)).all()) == len(sent)


def test_an_intake_that_looks_at_every_step_of_a_deletion_takes_nothing_for_new(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are threads of one node."""
    looks = 0
    for name in ("unlink", "rename"):
        real = getattr(Path, name)

        def call(path: Path, *arguments: Any, real: Any = real, **named: Any) -> Any:
            nonlocal looks
            done = real(path, *arguments, **named)
            if path.suffix == ".dcm" and path.is_relative_to(machines.spool.root):
                looks += 1
                machines.complete()
            return done

        monkeypatch.setattr(Path, name, call)

    assert retention(machines).run(IN_A_WEEK).studies == 1
    machines.complete()

    assert looks >= 6
    assert received(machines) == []
    assert machines.study().bytes_are is Whereabouts.DELETED
    assert not machines.study().is_pending
    assert [revision.number for revision in machines.revisions()] == [1]


def test_a_file_that_came_again_a_moment_before_the_decision_stays(machines: Machines) -> None:
    """The study is here for one of two instances that were deleted before; the other has no row yet."""
    retention(machines).run(IN_A_WEEK)
    finish(machines, slices=slice(0, 1))
    deliver(machines.store)
    (one,) = received(machines)
    machines.receive(slices=slice(1, 2))
    (new,) = set(received(machines)) - {one}

    assert retention(machines).run(IN_A_WEEK).studies == 1

    assert received(machines) == [new]


def test_files_that_left_without_a_decision_are_put_back(machines: Machines) -> None:
    """Killed before the decision was stored; meanwhile one came again, and another under a known UID."""
    before = {path: path.read_bytes() for path in received(machines)}
    withdrawn = Withdrawn(machines.spool)
    withdrawn.take_out(machines.key, [path.name for path in before])
    assert received(machines) == []
    machines.receive(slices=slice(0, 1))
    (again,) = received(machines)
    other = next(path for path in before if path != again)
    other.write_bytes(before[other][:-1] + b"!")

    assert retention(machines, states=()).run(NOON).studies == 0

    assert {path: path.read_bytes() for path in received(machines)} == before
    assert withdrawn.keys() == []
    assert [path.read_bytes()[-1:] for path in machines.spool.quarantined.iterdir()] == [b"!"]
    assert retention(machines).run(IN_A_WEEK).studies == 1


def test_files_of_a_deletion_count_as_used_until_they_are_gone(machines: Machines) -> None:
    quota = Quota(machines.spool.root, limit_bytes=None)
    used = quota.measure()
    assert used == sum(path.stat().st_size for path in received(machines))
    waiting = retention(machines)
    waiting.objects = StoreIsAway(machines.objects)
    with pytest.raises(StorageAwayError):
        waiting.run(IN_A_WEEK)

    assert quota.measure() == used
    retention(machines).run(IN_A_WEEK)
    assert quota.measure() == 0


def test_a_late_instance_of_a_deleted_study_is_a_new_revision(machines: Machines) -> None:
    with machines.store.transaction() as session:
        keeping.waive(session, machines.key, "phantom")
    retention(machines).run(IN_A_WEEK)

    finish(machines, slices=slice(2, 4))

    assert machines.study().waived is None  # it was given for the results there were
    first, second = machines.revisions()
    assert first.content_hash != second.content_hash
    study = machines.study()
    assert (study.bytes_are, study.state) == (Whereabouts.HERE, State.NOT_ASSESSABLE)
    with machines.store.transaction() as session:
        here = session.scalars(select(InstanceRow.file_name).where(~InstanceRow.is_deleted)).all()
    assert sorted(here) == [path.name for path in received(machines)]
    assert len(here) == 2


def test_what_comes_again_says_anew_who_it_is_and_what(machines: Machines) -> None:
    """The archive has corrected the patient meanwhile, and sorted the images into another series."""
    retention(machines).run(IN_A_WEEK)
    changed = PHANTOM.datasets()[0]
    changed.PatientID, changed.SeriesInstanceUID = "corrected", changed.SeriesInstanceUID + ".9"
    (path,) = write(machines.folder / "sent", [changed])
    machines.spool.store(changed.StudyInstanceUID, changed.SOPInstanceUID, [path.read_bytes()])
    with machines.store.transaction() as session:
        before = {row.file_name: (row.series, row.patient) for row in session.scalars(select(InstanceRow))}
    machines.complete()

    with machines.store.transaction() as session:
        (row,) = session.scalars(select(InstanceRow).where(~InstanceRow.is_deleted))
        assert row.series == series_key(changed.SeriesInstanceUID) != before[row.file_name][0]
        assert row.patient != before[row.file_name][1]
    assert machines.study().flag is None  # what is gone names nobody


def test_a_whole_study_sent_again_is_here_again_and_scored_once(machines: Machines) -> None:
    retention(machines).run(IN_A_WEEK)

    finish(machines)

    assert len(machines.revisions()) == 1
    assert machines.study().bytes_are is Whereabouts.HERE
    assert machines.actions().count("study.not_assessable") == 1
    assert retention(machines).run(IN_A_WEEK).studies == 1


def test_a_job_whose_study_was_deleted_ends_with_its_reason(machines: Machines) -> None:
    retention(machines).run(IN_A_WEEK)
    with machines.store.transaction() as session:  # as a clumsy restore of the database might leave it
        back_in_the_queue(session)
        session.execute(text("ALTER TABLE vigil.score DISABLE TRIGGER USER"))
        session.execute(update(ScoreRow).values(state=State.QUEUED, ended_at=None))
        session.execute(text("ALTER TABLE vigil.score ENABLE TRIGGER USER"))
        score_id = session.scalars(select(ScoreRow.id)).one()

    machines.triage().run(score_id)

    assert (machines.study().state, machines.study().reason) == (State.FAILED, STUDY_DELETED)
    assert "sent again" in machines.study().detail


def test_what_is_deleted_cannot_be_replayed_held_or_waived(machines: Machines) -> None:
    retention(machines).run(IN_A_WEEK)

    with pytest.raises(StudyDeletedError, match="sent again"):
        ordered(machines.store, replay, machines.key)
    with machines.store.transaction() as session:
        with pytest.raises(StudyDeletedError):
            keeping.hold(session, machines.key, "late")
        with pytest.raises(StudyDeletedError):
            keeping.waive(session, machines.key, "late")
        with pytest.raises(UnknownStudyError):
            keeping.waive(session, "a" * 20, "nobody")


def test_a_study_of_one_machine_goes_too(store: Store, tmp_path: Path, predictor: Predictor) -> None:
    machines = Machines(store, tmp_path, predictor, FolderStore(tmp_path / "share"))
    machines.intake.is_packing = False
    machines.receive()
    machines.complete()
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "spool").symlink_to(tmp_path / "node" / "spool")
    assert machines.work() == []
    deliver(store)
    stored = ResultFolder(tmp_path / "share" / "results")
    part = Retention(
        store=store,
        spool=machines.spool,
        objects=None,
        results=stored,
        ages={State.NOT_ASSESSABLE: DAY},
        quarantine_age=None,
    )
    assert machines.results()

    assert part.run(IN_A_WEEK).studies == 1
    assert machines.results() == received(machines) == []


def test_a_store_that_is_no_longer_named_keeps_a_deletion_open(machines: Machines) -> None:
    part = retention(machines)
    part.objects = None

    with pytest.raises(StorageAwayError, match="Set it again"):
        part.run(IN_A_WEEK)
    assert machines.study().bytes_are is Whereabouts.DELETING
    assert machines.packs()

    assert retention(machines).run(IN_A_WEEK).studies == 1
    assert machines.packs() == []


def test_a_study_that_cannot_be_deleted_holds_up_no_other(machines: Machines) -> None:
    """Its pack lies in a store that is no longer named; the other's never did."""
    part = retention(machines)
    part.objects = None
    with pytest.raises(StorageAwayError):
        part.run(IN_A_WEEK)
    machines.intake.is_packing = False
    machines.receive(Phantom(name="other"))
    machines.complete()
    with machines.store.transaction() as session:
        session.execute(
            text(
                "UPDATE vigil.study SET state = 'failed', reason = 'attempts_used_up', ended_at = :at,"
                " waived = 'phantom' WHERE key = :key"
            ),
            {"at": NOON, "key": machines.key},
        )

    with pytest.raises(StorageAwayError):
        part.run(IN_A_WEEK)

    with machines.store.transaction() as session:
        places = session.scalars(select(StudyRow.bytes_are).order_by(StudyRow.id)).all()
    assert places == [Whereabouts.DELETING, Whereabouts.DELETED]


def test_a_machine_without_the_received_files_deletes_nothing_unless_they_are_given_up(
    machines: Machines, tmp_path: Path
) -> None:
    elsewhere = retention(machines)
    elsewhere.spool = Spool(tmp_path / "elsewhere" / "spool", b"s" * 32, free_mark_bytes=0)

    with pytest.raises(InstancesMissingError, match="studies waive"):
        elsewhere.run(IN_A_WEEK)
    assert elsewhere.run(IN_A_WEEK).studies == 0  # it stands before no other study
    assert machines.study().bytes_are is Whereabouts.HERE
    assert machines.actions().count("study.deleting") == 0
    assert len(machines.packs()) == 1

    with machines.store.transaction() as session:
        keeping.waive(session, machines.key, "the disk is lost")
    assert elsewhere.run(IN_A_WEEK).studies == 1


def test_what_a_machine_without_the_files_has_ended_goes_from_the_node_too(
    machines: Machines, tmp_path: Path
) -> None:
    waiting = retention(machines)
    waiting.objects = StoreIsAway(machines.objects)
    with pytest.raises(StorageAwayError):
        waiting.run(IN_A_WEEK)
    elsewhere = retention(machines)
    elsewhere.spool = Spool(tmp_path / "elsewhere" / "spool", b"s" * 32, free_mark_bytes=0)
    assert elsewhere.run(IN_A_WEEK).studies == 1
    assert Withdrawn(machines.spool).keys() == [machines.key]

    retention(machines).run(IN_A_WEEK)

    assert Withdrawn(machines.spool).keys() == []
    assert received(machines) == []


def test_what_may_go_is_told_however_much_is_kept_before_it(machines: Machines) -> None:
    with machines.store.transaction() as session:
        keeping.hold(session, machines.key, "court")
    held = machines.key
    machines.receive(Phantom(name="other"))
    machines.complete()
    machines.packing.step(NOON)
    assert machines.work() == []
    deliver(machines.store)
    machines.spool.quarantine([b"old"], "unreadable")
    part = retention(machines, quarantine_age=DAY)

    with machines.store.transaction() as session:
        told = [
            keeping.past_age(session, part.ages, now=IN_A_WEEK, limit=1, may_go=may_go)
            for may_go in (None, True, False)
        ]
    assert [[one.key for one in found] for found in told] == [[held], [machines.key], [held]]

    foreseen = part.foresee(IN_A_WEEK)
    removed = part.run(IN_A_WEEK)
    assert foreseen.studies == (machines.key,)
    assert foreseen.quarantined == 1
    assert removed == Removed(studies=1, bytes=foreseen.bytes, quarantined=1)


def test_the_quarantine_has_an_age_of_its_own(machines: Machines) -> None:
    old = machines.spool.quarantine([b"old"], "unparsable")
    young = machines.spool.quarantine([b"young"], "unparsable")
    os.utime(old, (0, 0))

    assert retention(machines, states=()).run(NOON).quarantined == 0
    removed = retention(machines, states=(), quarantine_age=DAY).run(datetime.now(UTC))

    assert removed.quarantined == 1
    assert (old.exists(), young.exists()) == (False, True)
    assert machines.actions()[-1] == "quarantine.deleted"


def test_empty_folders_of_deleted_studies_are_swept_at_the_next_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=0)
    datasets = Phantom().datasets()
    (path,) = write(tmp_path / "sent", datasets[:1])
    key = spool.store("1.2.3", "1.2.3.4", [path.read_bytes()]).study_key
    other = spool.store("1.2.5", "1.2.3.4", [path.read_bytes()]).study_key
    (folder,) = (tmp_path / "spool" / key,)
    next(folder.iterdir()).unlink()
    assert spool.sweep_folders() == 0  # too young

    assert spool.sweep_folders(older_than_s=0) == 1

    assert not folder.exists()
    assert (tmp_path / "spool" / other).exists()
    assert spool.store("1.2.3", "1.2.3.4", [path.read_bytes()]).path.exists()


def test_the_commands_say_what_would_go_and_let_people_decide(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIL_DATA", str(tmp_path / "node"))
    monkeypatch.setattr("service.wiring.open_store", lambda _: machines.store)
    monkeypatch.setattr("service.terminal.configure_logging", lambda _: None)
    monkeypatch.setenv("VIGIL_STORE", str(tmp_path / "share"))
    monkeypatch.setenv("VIGIL_KEEP_NOT_ASSESSABLE_DAYS", "0")
    (tmp_path / "node" / "site.key").write_bytes(b"s" * 32)
    key = machines.key

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.stdout

    def report() -> dict[str, Any]:
        return parsed(call("retention", "report", "--json"))

    def parsed(output: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(output[output.index("{") :])  # behind lines of the log
        return document

    with machines.store.transaction() as session:
        session.execute(
            text("UPDATE vigil.study SET ended_at = '2026-01-02', last_instance_at = '2026-01-01'")
        )
    assert [row["key"] for row in report()["due"]] == [key]
    assert parsed(call("retention", "run", "--dry-run", "--json"))["studies"] == [key]
    assert len(received(machines)) == 6

    call("studies", "hold", key, "--reason", "court")
    assert [(row["key"], row["why"]) for row in report()["kept"]] == [(key, "held")]
    assert parsed(call("retention", "run", "--json"))["studies"] == 0
    call("studies", "release", key)
    call("studies", "waive", key, "--reason", "phantom")
    assert "may go" in call("retention", "report")
    assert CliRunner().invoke(app, ["studies", "hold", key, "--reason", " "]).exit_code == 2

    assert parsed(call("retention", "run", "--json"))["studies"] == 1
    assert [(row["key"], row["bytes_are"]) for row in report()["gone"]] == [(key, "deleted")]
    assert received(machines) == machines.packs() == machines.results() == []
    assert machines.actions()[-5:] == [
        "study.held",
        "study.released",
        "study.waived",
        "study.deleting",
        "study.deleted",
    ]


def test_a_node_that_commits_to_keep_studies_deletes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_KEEP_SCORED_DAYS", "30")
    assert load_settings().keep_scored_days == 30

    with pytest.raises(SettingsError, match="VIGIL_OFFER_COMMITMENT"):
        load_settings(offer_commitment=True)
