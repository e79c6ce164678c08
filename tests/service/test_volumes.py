import gzip
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from service import volumes
from service.errors import InstancesMissingError, ViewerBusyError
from service.provision import Provision
from service.settings import Settings
from service.store import Store, jobs, maps
from service.store.jobs import InferenceJob
from service.volumes import Volumes
from tests.viewed import HEAD, score

pytestmark = pytest.mark.postgres


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


@pytest.fixture
def scored(store: Store, settings: Settings) -> tuple[InferenceJob, str]:
    """What a score was made of, and its series."""
    key = score(store, settings)
    with store.transaction() as session:
        found = maps.viewed(session, key)
        assert found is not None
        return jobs.as_read(session, found.score_id), found.series


@pytest.fixture
def made(settings: Settings) -> Volumes:
    return Volumes(provision=Provision(spool_folder=settings.spool_folder), folder=settings.scratch_folder)


def test_the_volume_is_what_was_received(scored: tuple[InferenceJob, str], made: Volumes) -> None:
    volume = made.of(*scored)
    content = b"".join(volume.parts())

    assert len(content) == volume.size
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    assert np.array_equal(np.asarray(image.dataobj), HEAD.stored.transpose(2, 1, 0))
    right, anterior, superior = (image.affine @ [*HEAD.bright[::-1], 1])[:3]
    assert np.allclose([-right, -anterior, superior], HEAD.bright_mm, atol=1e-3)


def test_who_looks_again_reads_nothing_again(
    scored: tuple[InferenceJob, str], made: Volumes, settings: Settings
) -> None:
    first = made.of(*scored)
    for file in (settings.spool_folder / scored[0].study_key).iterdir():
        file.unlink()

    assert made.of(*scored) is first
    assert list(settings.scratch_folder.iterdir()) == []  # without a name: nothing is left behind


def test_files_that_are_gone_or_another_series_are_told_apart_from_a_volume(
    scored: tuple[InferenceJob, str], made: Volumes, settings: Settings
) -> None:
    job, series = scored
    with pytest.raises(InstancesMissingError):
        made.of(job, "another")
    next((settings.spool_folder / job.study_key).iterdir()).unlink()
    with pytest.raises(InstancesMissingError):
        made.of(job, series)


def test_a_viewer_does_not_wait_for_ever_for_another(
    scored: tuple[InferenceJob, str], made: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "PATIENCE_S", 0.01)
    held = threading.Thread(target=made._turn.acquire)
    held.start()
    held.join()

    with pytest.raises(ViewerBusyError):
        made.of(*scored)
