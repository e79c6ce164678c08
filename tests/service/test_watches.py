"""What the loop that watches makes of scores as they are recorded."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from models.documents import CalibrationDocument, ReferenceStudy, strata_of
from models.drift import GroupWatch
from models.groups import Group
from service import watching
from service.cli import app
from service.store import Store, calibrations, outbox, watch_lists, watches
from service.store.reports import DriftAlarm
from service.store.tables import AuditRow, GroupWatchRow, MessageRow, ScoreRow, StudyRow, WatchedRow
from service.store.watch_lists import UnknownGroupError
from service.study import Origin
from service.watching import Watching, dismiss, reference_of
from tests.seeds import MODEL_SHA256, MORNING, Seed, plant, plant_watch

pytestmark = pytest.mark.postgres

SCANNER = Group(
    modality="MR",
    body_part="BRAIN",
    sequence="T1",
    manufacturer="MAKER",
    model_name="ONE",
    age_band="40-59",
    site="north",
)


def planted(store: Store, *, count: int, first: int = 0, noise: float = 0.02) -> None:
    """Scored studies of one scanner that wait to be watched; numbers of the image spread about `noise`."""
    rng = np.random.default_rng(first)
    with store.transaction() as session:
        for number in range(first, first + count):
            score = float(rng.normal())
            plant(session, Seed(name=f"w{number}", study_score=score, group_key=SCANNER.key))
            row = session.scalars(select(ScoreRow).order_by(ScoreRow.id.desc()).limit(1)).one()
            row.looks = {"noise": noise * float(rng.uniform(0.9, 1.1))}
            watches.note(session, row.id)


def look(store: Store, judged: list[str] | None = None) -> None:
    """The loop looks; what it would have judged again is noted."""
    again = [] if judged is None else judged
    Watching(store=store, judge_again=lambda _, key: again.append(key)).step(datetime.now(UTC))


def the_watch(store: Store) -> watch_lists.ListedWatch:
    with store.transaction() as session:
        (found,) = watch_lists.listed(session)
    return found


def test_each_study_counts_once_and_in_order_through_a_kill(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(store, count=12)
    monkeypatch.setattr(watching, "AT_ONCE", 5)
    settle, calls = watches.settle, []

    def killed(session: Session, watched: watches.Watched) -> None:
        settle(session, watched)
        calls.append(1)
        if len(calls) == 2:
            raise SystemExit

    monkeypatch.setattr(watches, "settle", killed)
    with pytest.raises(SystemExit):
        look(store)
    assert the_watch(store).seen == 5

    look(store)

    assert the_watch(store).seen == 12
    with store.transaction() as session:
        rows = session.execute(
            select(WatchedRow.number, WatchedRow.is_waiting).order_by(WatchedRow.score_id)
        ).all()
        state = GroupWatch.model_validate(session.scalars(select(GroupWatchRow.state)).one())
        scores = session.scalars(select(ScoreRow.study_score).order_by(ScoreRow.id)).all()
    assert rows == [(number, False) for number in range(1, 13)]
    assert state.watches["score"].watched == tuple(scores)


def test_a_study_that_is_scored_again_is_no_news_of_its_scanner(store: Store) -> None:
    planted(store, count=2)
    look(store)
    with store.transaction() as session:
        (old, *_) = session.scalars(select(ScoreRow).order_by(ScoreRow.id)).all()
        columns = {
            name: getattr(old, name)
            for name in ("revision_id", "model_hash", "run_at", "state", "study_score", "p_value", "looks")
        }
        again = ScoreRow(
            **columns,
            config_digest="e" * 64,
            group_key=old.group_key,
            calibration_hash=old.calibration_hash,
            ended_at=old.ended_at,
        )
        session.add(again)
        session.flush()
        watches.note(session, again.id)

    look(store)

    assert the_watch(store).seen == 2
    with store.transaction() as session:
        assert session.scalars(select(WatchedRow.number).order_by(WatchedRow.id)).all() == [1, 2, None]
        assert not session.scalars(select(WatchedRow.id).where(WatchedRow.is_waiting)).all()


@pytest.fixture
def alarmed(store: Store) -> Store:
    """A scanner whose noise has doubled after sixty studies, told to one channel."""
    with store.transaction() as session:
        outbox.follow(session, {"board": frozenset({"scanner.drifted"})})
    planted(store, count=60)
    look(store)
    planted(store, count=20, first=60, noise=0.04)
    look(store)
    return store


def test_an_alarm_is_told_everywhere_in_one_transaction(alarmed: Store) -> None:
    found = the_watch(alarmed)

    assert found.alarms == ("noise",)
    assert found.evidence >= 1
    assert abs(found.studies_since_change - 20) <= 2
    with alarmed.transaction() as session:
        (message,) = session.scalars(select(MessageRow)).all()
        (event,) = session.scalars(select(AuditRow).where(AuditRow.action == "drift.alarmed")).all()
        told = DriftAlarm.of(message.content)
        withdrawn = watches.withdrawn(session, found.model_sha256, None)
    assert (message.event, message.lane) == ("scanner.drifted", f"scanner {found.id}")
    assert (told.group, told.alarms) == (found.group, ("noise",))
    assert event.detail["alarms"] == ["noise"]
    assert event.study_key is None
    assert withdrawn.holds(SCANNER)
    assert not withdrawn.holds(SCANNER.model_copy(update={"model_name": "OTHER"}))


def test_studies_of_after_the_change_that_nobody_has_seen_are_judged_again(alarmed: Store) -> None:
    with alarmed.transaction() as session:
        newest = session.scalars(select(StudyRow).order_by(StudyRow.id.desc()).limit(1)).one()
        newest.seen_at, newest.seen_by = MORNING, "reader"
    judged: list[str] = []

    look(alarmed, judged)

    with alarmed.transaction() as session:
        keys = session.scalars(select(StudyRow.key).order_by(StudyRow.id)).all()
        since = session.scalars(select(GroupWatchRow.changed_number)).one()
    assert since is not None
    assert judged == list(keys[since - 1 : -1])


def test_a_false_alarm_is_dismissed_and_the_watch_begins_anew(alarmed: Store) -> None:
    before = the_watch(alarmed)
    with alarmed.transaction() as session:
        mark = watches.withdrawn(session, before.model_sha256, None).mark
        assert dismiss(session, before.id, actor="ada", reason="a new coil") == before
    with alarmed.transaction() as session:
        now = watches.withdrawn(session, before.model_sha256, None)
        with pytest.raises(UnknownGroupError):
            dismiss(session, before.id, actor="ada", reason="again")
        (event,) = session.scalars(select(AuditRow).where(AuditRow.action == "drift.dismissed")).all()
    assert (event.actor, event.detail["reason"], event.detail["alarms"]) == ("ada", "a new coil", ["noise"])
    judged: list[str] = []

    planted(alarmed, count=20, first=80, noise=0.04)  # as noisy as it is now
    look(alarmed, judged)

    assert not now.holds(SCANNER)
    assert now.mark not in {"", mark}
    after = the_watch(alarmed)
    assert (after.alarmed_at, after.alarms, after.seen) == (None, (), 100)
    assert judged == []


def test_the_command_dismisses_an_alarm_by_the_number_that_the_list_shows(
    alarmed: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIGIL_DATABASE_URL", alarmed.url)
    monkeypatch.setenv("VIGIL_DATA", str(tmp_path))
    number = str(the_watch(alarmed).id)

    done = CliRunner().invoke(
        app, ["drift", "dismiss", number, "--reason", "a new coil"], catch_exceptions=False
    )

    assert done.exit_code == 0, done.output
    assert "the percentile holds again" in done.output
    assert the_watch(alarmed).alarms == ()


def test_images_are_compared_with_the_scanner_s_own_reference_and_scores_with_those_before() -> None:
    own = [
        ReferenceStudy(group=SCANNER, score=float(number), looks={"noise": 0.1 * number})
        for number in range(20)
    ]
    elsewhere = SCANNER.model_copy(update={"manufacturer": "OTHER"})
    document = CalibrationDocument(
        version=1,
        model_sha256="a" * 64,
        made_on=date(2026, 3, 4),
        author="a physicist",
        reason="test",
        strata=strata_of([*own, *(replace(study, group=elsewhere, looks={"noise": 9.0}) for study in own)]),
    )

    found = reference_of(document, SCANNER.scanner)
    unknown = reference_of(document, elsewhere.model_copy(update={"site": "south"}))

    assert found["noise"] == [0.1 * number for number in range(20)]
    assert found["score"] == []
    assert set(map(len, unknown.values())) == {0}
    assert set(map(len, reference_of(None, SCANNER.scanner).values())) == {0}


def documented(version: int, scores: dict[Group, float]) -> CalibrationDocument:
    studies = [ReferenceStudy(group=group, score=score) for group, score in scores.items()]
    return CalibrationDocument(
        version=version,
        model_sha256=MODEL_SHA256,
        made_on=date(2026, 3, version),
        author="a physicist",
        reason="test",
        strata=strata_of(studies),
    )


def accept(store: Store, document: CalibrationDocument) -> int:
    with store.transaction() as session:
        kept = calibrations.propose(session, document, origin=Origin.FILE, actor="ada")
        return calibrations.accept(session, kept.id, actor="ada").id


def test_a_watch_goes_on_where_a_new_document_leaves_a_scanner_as_it_was(store: Store) -> None:
    other = SCANNER.model_copy(update={"model_name": "TWO"})

    def gone(document: CalibrationDocument) -> set[str | None]:
        with store.transaction() as session:
            found = watches.withdrawn(session, MODEL_SHA256, document.sha256)
        return {group.model_name for group in (SCANNER, other) if found.holds(group)}

    first = documented(1, {SCANNER: 1.0, other: 2.0})
    accept(store, first)
    with store.transaction() as session:
        for group in (SCANNER, other):
            row = session.get_one(GroupWatchRow, plant_watch(session, group, alarmed_at=MORNING))
            row.calibration_sha256 = first.sha256
    assert gone(first) == {"ONE", "TWO"}

    second = documented(2, {SCANNER: 1.5, other: 2.0})  # ONE was commissioned
    decided = accept(store, second)
    assert gone(second) == {"TWO"}

    with store.transaction() as session:
        calibrations.retire(session, decided, actor="ada")
    assert gone(first) == {"ONE", "TWO"}


@pytest.mark.parametrize("late_alarm", [None, MORNING])
def test_a_watch_that_late_studies_began_does_not_keep_a_document_in_force(
    store: Store, late_alarm: datetime | None
) -> None:
    """A study scored under the document before may be watched after another came into force."""
    other = SCANNER.model_copy(update={"model_name": "TWO"})
    first, second = documented(1, {SCANNER: 1.0}), documented(2, {SCANNER: 1.0, other: 2.0})
    accept(store, first)
    with store.transaction() as session:
        row = session.get_one(GroupWatchRow, plant_watch(session, SCANNER))
        row.calibration_sha256, kept = first.sha256, row.id
    decided = accept(store, second)
    with store.transaction() as session:
        late = session.get_one(GroupWatchRow, plant_watch(session, SCANNER, alarmed_at=late_alarm))
        late.calibration_sha256 = first.sha256
        plant(session, Seed(name="late", group_key=SCANNER.key))
        score = session.scalars(select(ScoreRow)).one()
        session.add(WatchedRow(score_id=score.id, is_waiting=False, watch_id=late.id, number=1))

    with store.transaction() as session:
        calibrations.retire(session, decided, actor="ada")

    with store.transaction() as session:
        (watch,) = watch_lists.listed(session)
        assert watch.id == kept
        assert session.scalars(select(WatchedRow.watch_id)).all() == [kept]
        assert watches.withdrawn(session, MODEL_SHA256, first.sha256).holds(SCANNER) == bool(late_alarm)
