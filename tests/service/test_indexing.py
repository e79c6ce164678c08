import numpy as np
import pytest
from sqlalchemy import delete, select

from service.holdings import Holdings
from service.indexing import Indexed, index
from service.settings import Settings
from service.store import Store
from service.store.objects import Unchecked
from service.store.search import BY_NAME, STUDY_INSTANCES, Level, Search, search
from service.store.tables import IdentityRow, ListedInstanceRow, ListedSeriesRow, ListedStudyRow
from tests.archive import Archive
from tests.phantoms import Phantom, mr_image, uid

pytestmark = pytest.mark.postgres


@pytest.fixture
def archive(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A site that holds a study with a result, from before there was an index."""
    archive = Archive(store, Settings(data=tmp_path_factory.mktemp("data"), access="open"))
    key = archive.receive(Phantom(name="a").datasets())
    result = mr_image("a", 50, np.zeros((4, 4), np.uint16))
    result.SeriesInstanceUID = uid("a", "result")
    archive.keep(key, "sc", result, is_listed=False)
    with store.transaction() as session:
        for table in (ListedInstanceRow, ListedSeriesRow, ListedStudyRow, IdentityRow):
            session.execute(delete(table))
    return archive


def holdings(archive: Archive) -> Holdings:
    results = Unchecked(archive.settings.results_folder)
    return Holdings(spool_folder=archive.settings.spool_folder, results=results)


def test_what_was_here_before_the_index_is_found_after_it_is_made(archive: Archive) -> None:
    assert index(archive.store, holdings(archive)) == Indexed(listed=7, unreadable=0)
    assert index(archive.store, holdings(archive)) == Indexed(listed=0, unreadable=0)
    wanted = Search(level=Level.STUDY, matches={BY_NAME["PatientName"]: "phantom*"}, limit=10)
    with archive.store.transaction() as session:
        (match,) = search(session, wanted).found
    assert match.values[STUDY_INSTANCES] == 7


def test_what_cannot_be_read_is_counted_and_the_rest_is_listed(archive: Archive) -> None:
    damaged = min(archive.settings.spool_folder.glob("*/*.dcm"))
    damaged.write_bytes(b"not DICOM")
    assert index(archive.store, holdings(archive)) == Indexed(listed=6, unreadable=1)
    with archive.store.transaction() as session:
        assert len(session.scalars(select(ListedInstanceRow)).all()) == 6
