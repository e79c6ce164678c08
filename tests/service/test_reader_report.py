from datetime import timedelta

import pytest
from sqlalchemy import select

from models.evaluation.metrics import wilson_interval
from service.reader_report import build_report, read_report, share_of
from service.store import Store, feedback
from service.store.feedback import Opinion
from service.store.tables import StudyRow
from service.store.verdicts import Judged, Waited
from service.study import Conspicuity, State, Verdict
from tests.seeds import GROUP, MODEL, MODEL_SHA256, MORNING, Seed, plant

FINDING, ALARM = Verdict.CONFIRMED_FINDING, Verdict.FALSE_ALARM
LATER = MORNING + timedelta(hours=10)


def said(verdict: Verdict, percentile: float | None, conspicuity: Conspicuity | None = None) -> Judged:
    return Judged(
        verdict=verdict,
        percentile=percentile,
        conspicuity=conspicuity,
        model="m 1",
        group="g",
        is_disputed=False,
    )


def test_nothing_counted_is_no_share() -> None:
    empty = share_of(0, 0)
    assert (empty.share, empty.low, empty.high, empty.is_small) == (None, None, None, True)
    report = build_report([], [], since=MORNING, until=LATER)
    assert report.overall.findings == empty
    assert {share for row in report.sensitivity for _, share in row.cuts} == {empty}
    assert all(row.hours.value is None for row in report.time_to_read)


def test_predictive_value_and_sensitivity_are_counted_by_percentile_and_conspicuity() -> None:
    report = build_report(
        [
            said(FINDING, 0.5, Conspicuity.C1),
            said(ALARM, 1.0),
            said(FINDING, 4.0, Conspicuity.C2),
            said(Verdict.OTHER_CONDITION, 5.0),
            said(Verdict.WRONG_STUDY, 5.0),
            said(FINDING, 60.0, Conspicuity.C3),
            said(FINDING, None),
        ],
        [],
        since=MORNING,
        until=LATER,
    )

    at_five = {row.name: row for row in report.at_or_below}["at or below 5"]
    assert (at_five.findings.found, at_five.findings.n) == (2, 5)
    assert (at_five.findings.low, at_five.findings.high) == wilson_interval(2, 5)
    assert at_five.conditions.found == 3
    bands = {row.name: row.findings.n for row in report.by_band}
    assert bands == {"0 to 1": 2, "1 to 5": 3, "5 to 10": 0, "10 to 20": 0, "20 to 50": 0, "50 to 100": 1}
    found = {row.name: {cut: share.found for cut, share in row.cuts} for row in report.sensitivity}
    assert found["every finding"] == {1.0: 1, 5.0: 2, 10.0: 2, 20.0: 2, 50.0: 2}
    assert (found["C2"][1.0], found["C2"][5.0], found["C3"][50.0]) == (0, 1, 0)
    assert report.sensitivity[0].cuts[0][1].n == 3  # the finding without a percentile is in no share
    assert report.without_percentile.findings.found == 1
    assert "verification bias" in report.definitions["sensitivity"]


def test_what_nobody_has_seen_waits_on_in_the_time_to_read() -> None:
    waited = [
        Waited(state=State.SCORED, percentile=0.5, hours=1.0, is_seen=True),
        Waited(state=State.SCORED, percentile=0.5, hours=9.0, is_seen=False),
        Waited(state=State.SCORED, percentile=0.5, hours=3.0, is_seen=True),
        Waited(state=State.NOT_ASSESSABLE, percentile=None, hours=2.0, is_seen=True),
    ]
    report = build_report([], waited, since=MORNING, until=LATER)
    rows = {row.name: row for row in report.time_to_read}
    assert (rows["0 to 1"].studies, rows["0 to 1"].seen, rows["0 to 1"].longest_unseen_h) == (3, 2, 9.0)
    assert rows["0 to 1"].hours.value == 3.0  # 2/3 left at 1 h, 1/3 at 3 h
    assert (rows["not assessable"].hours.value, rows["every study"].studies) == (2.0, 4)


@pytest.mark.postgres
def test_the_report_counts_the_last_word_on_each_study_once(store: Store) -> None:
    seeds = [
        Seed(name="a", p_value=0.004),
        Seed(name="b", p_value=0.03),
        Seed(name="c", state=State.NOT_ASSESSABLE),
        Seed(name="old", received_at=MORNING - timedelta(days=400)),
    ]
    with store.transaction() as session:
        plant(session, *seeds)
        a, b, c, old = (seed.key for seed in seeds)
        feedback.give(session, a, Opinion(verdict=ALARM), actor="ada")
        feedback.give(session, a, Opinion(verdict=FINDING, conspicuity=Conspicuity.C2), actor="grace")
        given = feedback.give(session, b, Opinion(verdict=FINDING), actor="ada")
        feedback.correct(
            session, b, given.number, Opinion(verdict=Verdict.ARTEFACT), actor="ada", versions=None
        )
        feedback.give(session, c, Opinion(verdict=FINDING), actor="ada")
        feedback.give(session, old, Opinion(verdict=FINDING), actor="ada")
        for study in session.scalars(select(StudyRow).where(StudyRow.key == b)):
            study.seen_at, study.seen_by = MORNING + timedelta(hours=2), "ada"
            study.first_seen_at = study.seen_at
    with store.transaction() as session:
        report = read_report(session, now=LATER)
        other = read_report(session, now=LATER, model="0" * 64)
        everything = read_report(session, now=LATER, since=MORNING - timedelta(days=500), model=MODEL_SHA256)

    assert (report.studies, report.seen, report.judged, report.disputed) == (3, 1, 3, 1)
    (model,), (group,) = report.by_model, report.by_group
    assert (model.name, group.name) == (f"{MODEL.name} {MODEL.version}", GROUP)
    assert (report.overall.findings.found, report.overall.findings.n) == (1, 2)
    assert report.overall.verdicts[Verdict.ARTEFACT] == 1
    assert {name: share.found for name, share in report.overall.grades.items()} == {
        "C1": 0,
        "C2": 1,
        "C3": 0,
        "not graded": 0,
    }
    assert (report.not_assessable, report.without_percentile.findings.found) == (1, 1)
    times = {row.name: (row.studies, row.seen, row.hours.value) for row in report.time_to_read}
    assert times["0 to 1"] == (1, 0, None)
    assert times["1 to 5"] == (1, 1, 2.0)
    assert (other.studies, other.judged, everything.judged) == (0, 0, 4)
