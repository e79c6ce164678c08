from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from models.artefact import load_artefact
from service.access import GRANTS, Permission, Role
from service.settings import Settings
from service.shadowed import POINTER, set_shadow
from service.store import Store
from service.store.tables import RevisionRow, ShadowScoreRow
from service.study import State
from tests.picture_models import write_artefact
from tests.seeds import Seed, plant, study_key
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def shadowed(client: TestClient, store: Store, settings: Settings, tmp_path: Path) -> TestClient:
    """Client beside a shadow that ranks two studies the other way round, and declines a third."""
    artefact = load_artefact(write_artefact(tmp_path / "shadow"))
    set_shadow(settings.data, artefact, since=NOW)
    said = {"a": (0.9, None), "b": (0.02, None), "c": (None, "localiser")}
    with store.transaction() as session:
        plant(session, Seed(name="a", p_value=0.01), Seed(name="b", p_value=0.5), Seed(name="c", p_value=0.6))
        revisions = session.scalars(select(RevisionRow).order_by(RevisionRow.id)).all()
        for revision, (p_value, reason) in zip(revisions, said.values(), strict=True):
            session.add(
                ShadowScoreRow(
                    revision_id=revision.id,
                    model_hash=artefact.sha256,
                    model_name="grey",
                    model_version="2",
                    state=State.NOT_ASSESSABLE if reason else State.SCORED,
                    reason=reason,
                    p_value=p_value,
                    study_score=None if reason else 1.0,
                    seconds={"score": 0.5},
                    ended_at=NOW,
                )
            )
    return client


def test_both_models_stand_side_by_side(shadowed: TestClient) -> None:
    body = shadowed.get("/api/v1/shadow").json()
    assert (body["shadow"]["name"], body["rows"]["scored"], body["rows"]["queued"]) == ("grey", 2, 0)
    agreement = body["agreement"]
    assert (agreement["studies"], agreement["scored"]) == (3, 2)
    assert agreement["spearman"]["value"] == pytest.approx(-1)
    assert agreement["only_shadow"] == {"localiser": 1}
    assert {move["key"] for move in agreement["moves"]} == {study_key("a"), study_key("b")}
    assert shadowed.get("/api/v1/shadow", params={"top": 0}).json()["agreement"]["moves"] == []


def test_a_shadow_changes_neither_list_nor_study(shadowed: TestClient) -> None:
    rows = shadowed.get("/api/v1/worklist").json()["rows"]
    assert [(row["key"], row["assessment"]["percentile"]) for row in rows] == [
        (study_key("a"), 1.0),
        (study_key("b"), 50.0),
        (study_key("c"), 60.0),
    ]
    assert "grey" not in shadowed.get(f"/api/v1/studies/{study_key('a')}").text


def test_the_page_and_the_metrics_show_it(shadowed: TestClient, settings: Settings) -> None:
    page = {"Accept": "text/html"}
    assert "Studies that move most" in shadowed.get("/reports", headers=page).text
    assert 'vigil_shadow_scores{state="scored"} 2.0' in shadowed.get("/metrics").text
    (settings.data / POINTER).write_text("{")
    assert "No model watches." in shadowed.get("/reports", headers=page).text
    assert shadowed.get("/api/v1/shadow").json()["agreement"] is None


def test_who_reads_is_not_shown_what_a_shadow_says() -> None:
    assert Permission.OPERATE not in GRANTS[Role.READER] | GRANTS[Role.VIEWER]
