import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import update

from service.settings import Settings
from service.store import Store
from service.store.tables import ResultRow
from service.study import DISCLAIMER, DeliveryStatus, State
from tests.seeds import MODEL, REGIONS, Seed, plant, study_key, write_capture
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

SCORED = Seed(
    name="a",
    p_value=0.25,
    regions=REGIONS,
    pictures=3,
    results={"sc": {"archive": DeliveryStatus.DELIVERED}, "sr": {"archive": DeliveryStatus.WAITING}},
)


@pytest.fixture
def frames(settings: Settings, store: Store) -> np.ndarray:
    """Frames of the stored heatmap of a scored study."""
    frames = np.random.default_rng(7).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    write_capture(settings.results_folder / SCORED.key / "sc.dcm", frames)
    with store.transaction() as session:
        plant(session, SCORED)
    return frames


def picture(key: str, index: object) -> str:
    return f"/api/v1/studies/{key}/pictures/{index}.png"


def test_a_study_tells_scores_regions_series_deliveries_and_timeline(
    client: TestClient, store: Store
) -> None:
    with store.transaction() as session:
        plant(session, SCORED)
    body = client.get(f"/api/v1/studies/{SCORED.key}").json()
    assert (body["row"]["rank"], body["ranked"], body["instances"]) == (1, 1, 3)
    score = body["revisions"][0]["scores"][0]
    assert score["assessment"]["percentile"] == 25.0
    assert score["assessment"]["reference_n"] == MODEL.n
    assert [region["volume_mm3"] for region in score["regions"]] == [item["volume_mm3"] for item in REGIONS]
    assert [series["reason"] for series in score["series"]] == [None, "localiser"]
    assert [result["deliveries"][0]["status"] for result in score["results"]] == ["delivered", "waiting"]
    assert [event["action"] for event in body["timeline"]] == [
        "study.received",
        "study.queued",
        "study.scored",
    ]
    assert body["disclaimer"] == f"{MODEL.disclaimer} {DISCLAIMER}"


@pytest.mark.parametrize("state", sorted(set(State) - {State.SCORED}))
def test_an_unscored_study_tells_no_number(client: TestClient, store: Store, state: State) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=state, regions=REGIONS, pictures=3))
    body = client.get(f"/api/v1/studies/{study_key('a')}").json()
    assert (body["row"]["rank"], body["row"]["assessment"]) == (None, None)
    assert "percentile" not in str(body["revisions"])


def test_no_uid_and_no_path_leaves_the_service(client: TestClient, store: Store) -> None:
    with store.transaction() as session:
        plant(session, SCORED)
    text = client.get(f"/api/v1/studies/{SCORED.key}").text
    assert "1.2.840" not in text
    assert "2.25." not in text
    assert ".dcm" not in text


def test_an_unknown_study_is_a_problem_with_a_remedy(client: TestClient) -> None:
    answer = client.get(f"/api/v1/studies/{study_key('nobody')}")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:vigil:problem:unknown-study"
    assert "vigil studies list" in answer.json()["remedy"]


@pytest.mark.parametrize(
    "key", ["A" * 20, "a" * 19, "a" * 21, "0" * 20, "1.2.840.113619.2.55.3", "a" * 19 + "%0a"]
)
def test_what_is_no_key_is_refused_and_never_repeated(client: TestClient, key: str) -> None:
    answer = client.get(f"/api/v1/studies/{key}")
    assert answer.status_code == 422
    assert key not in answer.text


def test_a_picture_is_the_frame_that_was_stored(client: TestClient, frames: np.ndarray) -> None:
    answer = client.get(picture(SCORED.key, 2))
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as image:
        np.testing.assert_array_equal(np.asarray(image), frames[2])


@pytest.mark.usefixtures("frames")
def test_a_picture_for_a_list_is_small_and_only_known_sizes_are_given(client: TestClient) -> None:
    answer = client.get(picture(SCORED.key, 2), params={"size": "small"})
    with Image.open(io.BytesIO(answer.content)) as image:
        assert max(image.size) <= 192
    assert client.get(picture(SCORED.key, 2), params={"size": "huge"}).status_code == 422


@pytest.mark.usefixtures("frames")
@pytest.mark.parametrize(("index", "status"), [(3, 404), (99_999, 404), (-1, 422), ("x", 422)])
def test_a_frame_that_is_not_there_is_a_problem(client: TestClient, index: object, status: int) -> None:
    answer = client.get(picture(SCORED.key, index))
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_an_unscored_study_has_no_picture(client: TestClient, store: Store) -> None:
    declined = Seed(name="n", state=State.NOT_ASSESSABLE, results={"sc": {}})
    with store.transaction() as session:
        plant(session, declined)
    assert client.get(picture(declined.key, 0)).json()["type"] == "urn:vigil:problem:no-picture"


@pytest.mark.usefixtures("frames")
@pytest.mark.parametrize("stored", ["../outside.dcm", "/etc/hostname", "missing.dcm", "broken.dcm"])
def test_a_file_outside_the_results_or_unreadable_is_not_served(
    client: TestClient, store: Store, settings: Settings, tmp_path: Path, stored: str
) -> None:
    write_capture(tmp_path / "outside.dcm", np.zeros((1, 4, 4, 3), np.uint8))
    (settings.results_folder / "broken.dcm").write_bytes(b"not DICOM")
    with store.transaction() as session:
        session.execute(update(ResultRow).where(ResultRow.kind == "sc").values(path=stored))
    answer = client.get(picture(SCORED.key, 0))
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:vigil:problem:picture-unavailable"
