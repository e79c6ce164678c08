from datetime import timedelta

import pytest

from service.store import Store
from service.store.score_counts import count_scores
from service.study import State
from tests.seeds import CALIBRATION_SHA256, MODEL_SHA256, MORNING, Seed, plant

pytestmark = pytest.mark.postgres

EDGES = (1.0, 2.0, 3.0)


def counted(store: Store, **changed: str) -> list[int]:
    asked = {"model_sha256": MODEL_SHA256, "calibration_sha256": CALIBRATION_SHA256} | changed
    with store.transaction() as session:
        return count_scores(session, since=MORNING, edges=EDGES, **asked)


def test_scores_are_counted_between_edges_since_a_time(store: Store) -> None:
    with store.transaction() as session:
        plant(
            session,
            *(Seed(name=f"s{score}", study_score=score) for score in (0.5, 1.0, 1.9, 3.0, 99.0)),
            Seed(name="earlier", study_score=1.5, received_at=MORNING - timedelta(seconds=1)),
            Seed(name="declined", study_score=1.5, state=State.NOT_ASSESSABLE),
            Seed(name="again", study_score=2.5, revisions=2),
        )
    assert counted(store) == [1, 2, 1, 2]


def test_scores_of_another_model_or_group_are_left_out(store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a"))
    assert sum(counted(store)) == 1
    assert sum(counted(store, model_sha256="0" * 64)) == 0
    assert sum(counted(store, calibration_sha256="0" * 64)) == 0
