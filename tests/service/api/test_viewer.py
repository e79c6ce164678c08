import gzip
import hashlib
import threading

import nibabel as nib
import numpy as np
import pytest
from sqlalchemy import update

from service import volumes
from service.settings import Settings
from service.store import Store
from service.store.tables import MapRow
from service.study import State
from service.volumes import MOST_VOXELS
from tests.phantoms import uid
from tests.seeds import Seed, plant
from tests.viewed import HEAD, score
from tests.web_client import TestClient

pytestmark = pytest.mark.postgres

KINDS = ("volume", "map")


@pytest.fixture
def key(store: Store, settings: Settings) -> str:
    """Key of a study that a worker scored."""
    return score(store, settings)


def address(key: str, kind: str) -> str:
    return f"/api/v1/studies/{key}/{kind}.nii.gz"


def test_volume_and_map_lie_on_one_grid_and_hold_no_identity(client: TestClient, key: str) -> None:
    images = []
    for kind in KINDS:
        answer = client.get(address(key, kind))
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/gzip"
        assert answer.headers["cache-control"] == "no-store"
        assert int(answer.headers["content-length"]) == len(answer.content)
        content = gzip.decompress(answer.content)
        for secret in ("Phantom", "PH-viewed", "19700101", uid("viewed", "study")):
            assert secret.encode() not in content
            assert secret not in str(answer.headers)
        images.append(nib.Nifti1Image.from_bytes(content))
    volume, anomaly = images
    assert volume.shape == anomaly.shape == HEAD.shape[::-1]
    assert np.array_equal(volume.affine, anomaly.affine)
    hottest = np.unravel_index(np.asarray(anomaly.dataobj).argmax(), anomaly.shape)
    assert hottest[::-1] == HEAD.bright


@pytest.mark.parametrize("kind", KINDS)
def test_who_has_it_is_told_so(client: TestClient, key: str, kind: str) -> None:
    tag = client.get(address(key, kind)).headers["etag"]
    for sent in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = client.get(address(key, kind), headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(address(key, kind), headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", sorted(set(State)))
def test_a_study_without_a_map_has_no_volume(
    client: TestClient, store: Store, state: State, kind: str
) -> None:
    seed = Seed(name="planted", state=state)  # also a scored one: of a release that kept no maps
    with store.transaction() as session:
        plant(session, seed)

    answer = client.get(address(seed.key, kind))

    assert (answer.status_code, answer.json()["type"]) == (404, "urn:vigil:problem:no-volume")


def test_a_map_that_was_changed_is_not_shown(client: TestClient, settings: Settings, key: str) -> None:
    (file,) = (settings.results_folder / key).glob("*.nii.gz")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)

    answer = client.get(address(key, "map"))

    assert (answer.status_code, answer.json()["type"]) == (404, "urn:vigil:problem:volume-unavailable")
    assert hashlib.sha256(content).hexdigest() not in answer.text


def test_images_that_are_gone_are_a_problem_with_a_remedy(
    client: TestClient, settings: Settings, key: str
) -> None:
    for file in (settings.spool_folder / key).iterdir():
        file.unlink()

    answer = client.get(address(key, "volume"))

    assert (answer.status_code, answer.json()["type"]) == (404, "urn:vigil:problem:volume-unavailable")
    assert client.get(address(key, "map")).status_code == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_too_large_for_a_browser_says_so(
    client: TestClient, store: Store, key: str, kind: str
) -> None:
    with store.transaction() as session:
        session.execute(update(MapRow).values(voxels=MOST_VOXELS + 1))

    assert client.get(address(key, kind)).json()["type"] == "urn:vigil:problem:volume-too-large"


def test_who_waits_too_long_for_others_is_asked_to_come_again(
    client: TestClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "PATIENCE_S", 0.01)
    held = threading.Thread(target=client.app.state.parts.volumes._turn.acquire)
    held.start()
    held.join()

    answer = client.get(address(key, "volume"))

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
