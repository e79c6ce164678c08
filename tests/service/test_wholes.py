"""Studies of a cohort taken together leave the rows that each taken alone leaves."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from dicom_node.spool import Spool
from service import engine
from service.engine import Pool
from service.intake import Intake
from service.store import Store, audit, awaited, cohorts
from service.store.tables import Base, StudyRow
from service.study import Priority, State
from tests.conftest import empty
from tests.phantoms import Phantom, changed

pytestmark = pytest.mark.postgres

NAMES = ("a", "b", "c")
# What the clock and the order of writing decide.
BY_CHANCE = {"id", "created_at", "completed_at", "run_at", "study_id", "series_id", "received_id",
             "revision_id",
             "score_id", "last_instance_at", "received_at", "completed_by", "priority", "at"}  # fmt: skip


def soon() -> datetime:
    """When what has just come has been quiet for long enough."""
    return datetime.now(UTC) + timedelta(seconds=1)


class Site:
    """A spool and its intake, with a cohort."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.spool = Spool(folder / "spool", b"s" * 32, free_mark_bytes=0)
        self.keys: dict[str, int] = {}

    def receive(self, phantom: Phantom, *, patient: str | None = None) -> str:
        datasets = changed(phantom.datasets(), lambda _, dataset: setattr(dataset, "AccessionNumber", "A7"))
        if patient:
            datasets[0].PatientName = patient
        for dataset in datasets:
            path = self.spool.root.parent / "one.dcm"
            dataset.save_as(path, enforce_file_format=True)
            key = self.spool.store(
                dataset.StudyInstanceUID, dataset.SOPInstanceUID, [path.read_bytes()]
            ).study_key
        self.keys[key] = len(datasets)
        return key

    def intake(self) -> Intake:
        return Intake(
            store=self.store,
            spool=self.spool,
            model_hash="m",
            config_digest=lambda _, __: "c",
            quiet_s=lambda _: 0.001,
        )

    def screen(self) -> int:
        with self.store.transaction() as session:
            cohort = cohorts.begin(session, name="all", source="s", q=0.1, actor="me")
            cohorts.have(session, cohort.id, self.keys)
        return cohort.id

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything but what chance decides, table by table."""
        found = {}
        with self.store.transaction() as session:
            for table in Base.metadata.sorted_tables:
                if table.name in {"audit", "change", "cohort", "cohort_study"}:
                    continue
                columns = [column for column in table.columns if column.name not in BY_CHANCE]
                rows = session.execute(select(*columns)).all()
                found[table.name] = sorted((tuple(map(str, row)) for row in rows), key=str)
            jobs = session.execute(text("SELECT queue_name, task_name, status::text FROM procrastinate_jobs"))
            found["jobs"] = sorted(tuple(job) for job in jobs)
        return found

    def states(self) -> dict[str, tuple[State, int]]:
        with self.store.transaction() as session:
            rows = session.execute(select(StudyRow.key, StudyRow.state, StudyRow.priority))
            return {key: (state, priority) for key, state, priority in rows}


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Site:
    return Site(store, tmp_path)


def test_studies_taken_together_leave_what_each_taken_alone_leaves(site: Site) -> None:
    for name in NAMES:
        site.receive(Phantom(name=name, shape=(3, 12, 10)))
    site.intake().step(soon())
    alone = site.rows()
    empty(site.store)

    cohort = site.screen()
    site.intake().step(soon())

    assert site.rows() == alone
    assert (len(alone["jobs"]), len(alone["instance"])) == (len(NAMES), 9)
    with site.store.transaction() as session:
        assert cohorts.progress(session, cohort).queued == len(NAMES)
        assert audit.verify(session).number == 1 + 2 * len(NAMES)  # the cohort, and two a study


def test_studies_of_a_cohort_are_screening_and_looking_again_changes_nothing(site: Site) -> None:
    site.receive(Phantom(name="a"))
    site.screen()
    for _ in range(3):
        site.intake().step(soon())

    assert list(site.states().values()) == [(State.QUEUED, Priority.SCREENING)]
    with site.store.transaction() as session:
        assert engine.depth(session)[Pool.INFER].waiting == 1


def test_what_is_not_plain_goes_the_way_of_all_others(site: Site) -> None:
    ordered = site.receive(Phantom(name="ordered"))
    two_patients = site.receive(Phantom(name="two"), patient="Another^Person")
    site.screen()
    with site.store.transaction() as session:
        awaited.note(session, [ordered], Priority.STAT)

    site.intake().step(soon())

    assert site.states()[ordered] == (State.QUEUED, Priority.STAT)
    assert site.states()[two_patients] == (State.QUEUED, Priority.SCREENING)
    with site.store.transaction() as session:
        flags = dict(session.execute(select(StudyRow.key, StudyRow.flag)).all())
    assert flags == {ordered: None, two_patients: "patient_conflict"}


def test_a_study_that_is_being_copied_is_left_alone_until_it_is_whole(site: Site) -> None:
    key = site.receive(Phantom(name="a"))
    cohort = site.screen()
    with site.store.transaction() as session:
        cohorts.want(session, cohort, [key])
    intake = site.intake()
    intake.step(datetime.now(UTC))
    before = site.states()

    with site.store.transaction() as session:
        cohorts.have(session, cohort, site.keys)
    intake.step(datetime.now(UTC))

    assert before == {}
    assert site.states() == {key: (State.QUEUED, Priority.SCREENING)}


def test_a_study_nobody_goes_on_copying_is_one_like_any_other(site: Site) -> None:
    key = site.receive(Phantom(name="a"))
    cohort = site.screen()
    with site.store.transaction() as session:
        cohorts.want(session, cohort, [key])
        session.execute(text("UPDATE vigil.cohort_study SET at = now() - interval '1 hour'"))

    site.intake().step(soon())

    assert site.states()[key][0] is State.QUEUED


def test_a_study_that_was_complete_before_it_was_said_to_be_whole_is_taken(site: Site) -> None:
    site.receive(Phantom(name="a"))
    site.intake().step(soon())
    cohort = site.screen()
    with site.store.transaction() as session:
        cohorts.settle(session, cohort)
        early = cohorts.progress(session, cohort).queued
        session.execute(text("UPDATE vigil.cohort_study SET at = now() - interval '2 minutes'"))
        cohorts.settle(session, cohort)

        assert (early, cohorts.progress(session, cohort).queued) == (0, 1)


def test_what_an_earlier_run_wanted_and_the_source_lost_is_left_out(site: Site) -> None:
    cohort = site.screen()
    with site.store.transaction() as session:
        cohorts.want(session, cohort, ["a" * 20])
        cohorts.leave_out_the_rest(session, cohort)
        progress = cohorts.progress(session, cohort)

    assert (progress.members, progress.left_out, progress.is_over) == (1, 1, True)
