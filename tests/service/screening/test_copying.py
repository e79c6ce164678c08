import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from dicom_node.identity import MANUFACTURER, MODEL_NAME
from dicom_node.importing import copy_all, look
from dicom_node.spool import Spool
from service.screening.copying import Copier
from service.screening.index import Index
from service.store import Store, cohorts, studies
from service.store.studies import Arrival
from service.store.tables import CohortStudyRow
from service.study import MemberState
from tests.phantoms import Phantom, write
from tests.seeds import MORNING

pytestmark = pytest.mark.postgres

SLICES = (3, 12, 10)


class Folder:
    """A folder of studies, and the site it is screened into."""

    def __init__(self, store: Store, below: Path) -> None:
        self.store, self.source = store, below / "source"
        self.spool = Spool(below / "spool", b"s" * 32, free_mark_bytes=0)
        with store.transaction() as session:
            self.cohort = cohorts.begin(session, name="a", source="s", q=0.1, actor="me").id

    def copy(self, *, stop: threading.Event | None = None, spool: Spool | None = None) -> Counter[str]:
        """Screen the folder up to the spool; what became of its files."""
        with Index() as index:
            index.read(self.source, go_on=lambda _: True)
            copier = Copier(
                store=self.store,
                spool=spool or self.spool,
                cohort_id=self.cohort,
                stop=stop or threading.Event(),
            )
            copier.run(index)
            return Counter({code: count for code, count in (index.left_out + copier.files).items() if count})

    def members(self) -> list[tuple[MemberState, int | None]]:
        with self.store.transaction() as session:
            rows = session.query(CohortStudyRow).order_by(CohortStudyRow.id).all()
            return [(row.state, row.instances) for row in rows]


@pytest.fixture
def folder(store: Store, tmp_path: Path) -> Folder:
    made = Folder(store, tmp_path)
    for name in ("a", "b"):
        write(made.source / name / "deep", Phantom(name=name, shape=SLICES).datasets())
    return made


def test_a_folder_is_copied_once_whatever_lies_in_it_twice(folder: Folder) -> None:
    shutil.copytree(folder.source / "a", folder.source / "again")
    (folder.source / "notes.txt").write_text("no image")
    own = Phantom(name="own", shape=SLICES).datasets()
    for dataset in own:
        dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    write(folder.source / "own", own)

    first, second = folder.copy(), folder.copy()

    assert first == {"stored": 6, "duplicate": 3, "not_an_image": 1, "own_result": 3}
    assert second == {"not_an_image": 1, "own_result": 3}
    assert folder.members() == [(MemberState.COPIED, 3)] * 2
    assert len(list(folder.spool.studies())) == 2


def test_what_a_killed_run_left_half_copied_is_made_whole(folder: Folder) -> None:
    (one, *_) = sorted((folder.source / "a").rglob("*.dcm"))
    copy_all(folder.spool, [look(one)], sender="VIGIL-SCREEN")
    with folder.store.transaction() as session:
        cohorts.want(session, folder.cohort, [folder.spool.key_of(look(one).study_uid)])

    assert folder.copy() == {"stored": 5, "duplicate": 1}
    assert folder.members() == [(MemberState.COPIED, 3)] * 2


def test_another_content_under_a_known_uid_is_told_and_kept_apart(folder: Folder) -> None:
    other = Phantom(name="a", shape=SLICES).datasets()[:1]
    other[0].PatientName = "Another"
    write(folder.source / "z", other)
    assert folder.copy() == {"stored": 6, "conflict": 1}
    assert len(list(folder.spool.quarantined.iterdir())) == 1


def test_a_study_that_vigil_has_is_a_member_without_being_copied(folder: Folder) -> None:
    with Index() as index:
        index.read(folder.source / "a", go_on=lambda _: True)
        (study,) = index
    arrivals = [
        Arrival(
            file_name=name, sha256="0", bytes=1, sop_class_uid="1.2", is_own=False, sender="SCANNER",
            received_at=MORNING, modality="MR", description="",
        )
        for name in study.names
    ]  # fmt: skip
    with folder.store.transaction() as session:
        studies.register(session, folder.spool.key_of(study.study_uid), arrivals)

    assert folder.copy() == {"known": 3, "stored": 3}
    assert sorted(folder.members(), key=str) == [(MemberState.COPIED, 3), (MemberState.TAKEN, 3)]


def test_a_full_spool_is_waited_for_and_the_command_can_still_be_stopped(folder: Folder) -> None:
    full = Spool(folder.spool.root, b"s" * 32, free_mark_bytes=2**62)
    stop = threading.Event()
    told: list[bool] = []
    with Index() as index:
        index.read(folder.source, go_on=lambda _: True)

        def tell(is_full: bool) -> None:
            told.append(is_full)
            stop.set()

        Copier(
            store=folder.store, spool=full, cohort_id=folder.cohort, stop=stop, tell_full=tell
        ).run(index)  # fmt: skip
    assert told == [True]
    assert list(full.studies()) == []
    assert folder.members() == [(MemberState.WANTED, None)] * 2
    assert folder.copy() == {"stored": 6}
