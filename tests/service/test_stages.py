from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from dicom_node.services.commitment import Mailbox
from service.deliver import Delivery
from service.store import Store, jobs, studies
from service.store.detail import study_detail
from service.store.jobs import Outcome
from service.store.objects import Unchecked
from service.store.tables import DeliveryRow, ScoreRow
from service.study import State
from tests.fakes import FakeDestination
from tests.service.test_jobs import SCORED
from tests.service.test_studies import KEY, NOON, arrival

pytestmark = pytest.mark.postgres

PARTS = {"fetch": 0.5, "read": 0.5, "score": 1.5, "build": 0.25, "keep": 0.125}


def test_each_stage_of_a_study_has_its_cost(store: Store, tmp_path: Path) -> None:
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a"), arrival("b", at=NOON + timedelta(seconds=7))])
        quiet = NOON + timedelta(seconds=67)
        revision = studies.complete(session, KEY, completed_by="quiet_period", now=quiet)
        assert revision is not None
        score_id = jobs.queue(session, revision.id, model_hash="m", config_digest="c", run_at=quiet)
        assert score_id is not None
    with store.transaction() as session:
        job = jobs.begin(session, score_id)
        assert job is not None
        outcome = Outcome(state=State.SCORED, values=SCORED.values, results=SCORED.results, seconds=PARTS)
        made = jobs.record(session, job, outcome, lambda _: ["pacs"])
    with store.transaction() as session:
        session.execute(update(ScoreRow).values(began_at=ScoreRow.ended_at - timedelta(seconds=2)))
    delivery = Delivery(
        store=store,
        objects=Unchecked(tmp_path),
        destinations={"pacs": FakeDestination()},
        attempts=3,
        mailbox=Mailbox(tmp_path / "commitment"),
    )
    (delivery_id,) = made or []
    delivery.run(delivery_id)

    with store.transaction() as session:
        stages = study_detail(session, KEY).stages
        sent_s = session.scalars(select(DeliveryRow.seconds)).one()

    assert [(stage.name, stage.of) for stage in stages] == [
        ("received", "first to last instance"),
        ("complete", "quiet_period"),
        ("queued", ""),
        ("claimed", "attempt 1"),
        ("fetch", ""),
        ("read", ""),
        ("score", ""),
        ("build", ""),
        ("keep", ""),
        ("scored", ""),
        ("sent", "sr to pacs, attempts: 1"),
    ]
    seconds = {stage.name: stage.seconds for stage in stages}
    assert (seconds["received"], seconds["complete"], seconds["scored"]) == (7.0, 60.0, 2.0)
    assert {part: seconds[part] for part in PARTS} == PARTS
    assert seconds["sent"] == sent_s > 0


def test_a_study_that_still_arrives_has_one_stage(store: Store) -> None:
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a")])
        (stage,) = study_detail(session, KEY).stages

    assert (stage.name, stage.seconds) == ("received", 0.0)
