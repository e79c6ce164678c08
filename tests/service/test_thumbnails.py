from datetime import timedelta

import pytest
from sqlalchemy import update

from service.store import Store
from service.store.tables import StudyRow
from service.store.thumbnails import thumbnails
from service.study import State
from tests.seeds import MORNING, REGIONS, Seed, plant

pytestmark = pytest.mark.postgres


def test_a_thumbnail_shows_the_strongest_region_and_no_frame_that_is_not_there(store: Store) -> None:
    plain = Seed(name="plain", pictures=9)
    strong = Seed(name="strong", pictures=9, regions=REGIONS)
    short = Seed(name="short", pictures=1, regions=REGIONS)
    none = Seed(name="none")
    declined = Seed(name="declined", state=State.NOT_ASSESSABLE, pictures=9)
    deleted = Seed(name="deleted", pictures=9)
    seeds = (plain, strong, short, none, declined, deleted)
    with store.transaction() as session:
        plant(session, *seeds)
        session.execute(
            update(StudyRow).where(StudyRow.key == deleted.key).values(deleted_at=MORNING + timedelta(days=1))
        )
        found = thumbnails(session, [seed.key for seed in seeds])
    assert found == {plain.key: 4, strong.key: REGIONS[0]["slice_index"], short.key: 0}
