import gzip
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation
from sqlalchemy import select, update

from models.volume import Volume
from service.settings import Settings
from service.store import Store, maps
from service.store.maps import Viewed
from service.store.objects import ResultFolder
from service.store.tables import StudyRow
from service.study import State
from tests.viewed import BANDS, HEAD, Head, Pointer, score

pytestmark = pytest.mark.postgres


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


def of(store: Store, key: str) -> Viewed | None:
    with store.transaction() as session:
        return maps.viewed(session, key)


def test_a_worker_keeps_the_map_of_a_volume_beside_the_results(store: Store, settings: Settings) -> None:
    key = score(store, settings)
    viewed = of(store, key)

    assert viewed is not None
    stored = viewed.map
    volume = Volume(voxels=HEAD.stored.astype(np.float32), spacing_mm=HEAD.spacing_mm, affine=np.eye(4))
    hot = Pointer().map_of(volume)
    with ResultFolder(settings.results_folder).local(stored.path, stored.sha256, stored.bytes) as file:
        found = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(file.read_bytes())).dataobj)
    assert np.abs(found.transpose(2, 1, 0) - hot).max() <= 1 / 255 + 1e-6
    assert stored.voxels == hot.size
    assert stored.curve.peaks == pytest.approx(hot.max(axis=(1, 2)), abs=1e-4)
    assert stored.curve.bands == BANDS


def test_a_map_goes_with_the_results_of_its_study(store: Store, settings: Settings) -> None:
    key = score(store, settings)
    viewed = of(store, key)
    assert viewed is not None
    ResultFolder(settings.results_folder).remove_all(key)

    assert not (settings.results_folder / viewed.map.path).exists()
    with store.transaction() as session:
        session.execute(update(StudyRow).values(deleted_at=datetime.now(UTC)))
    assert of(store, key) is None


def test_a_picture_alone_has_no_map(store: Store, settings: Settings) -> None:
    flat = Head(shape=(1, 40, 30), bright=(0, 7, 4), name="flat")
    key = score(store, settings, flat, SOPClassUID=DigitalXRayImageStorageForPresentation, Modality="DX")

    with store.transaction() as session:
        assert session.scalars(select(StudyRow.state)).one() is State.SCORED
    assert of(store, key) is None
