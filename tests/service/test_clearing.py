"""The node's disk is freed of what the store has, and of nothing else."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_node.quarantine import conflicts
from models.catalogue import active_artefact
from models.predictor import Predictor
from service.clearing import Clearing
from service.storage.folder import FolderStore
from service.store import Store
from service.study import PackState, State
from tests.phantoms import Phantom
from tests.service.test_packing import LATER, NOON, Killed, Machines, flip

pytestmark = pytest.mark.postgres

HOUR = timedelta(hours=1)
IN_A_DAY = LATER + timedelta(days=1)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(active_artefact())


@pytest.fixture
def machines(store: Store, tmp_path: Path, predictor: Predictor) -> Machines:
    """A study that has ended, but for its last two instances, which are still to come."""
    made = Machines(store, tmp_path, predictor, FolderStore(tmp_path / "share"))
    take_in(made, slice(0, 4))
    return made


def take_in(machines: Machines, slices: slice) -> None:
    machines.receive(slices=slices)
    look(machines)
    assert machines.work() == []


def look(machines: Machines) -> None:
    machines.intake._seen.clear()
    machines.complete()
    machines.packing.step(NOON)


def clear(machines: Machines, after: timedelta | None = HOUR) -> None:
    Clearing(store=machines.store, spool=machines.spool, objects=machines.objects, after=after).step(IN_A_DAY)


def changed(machines: Machines) -> str:
    """Receive the second instance again, with another header; return its file name."""
    dataset = Phantom().datasets()[1]
    dataset.SeriesDescription = "not the same"
    path = machines.folder / "changed.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return machines.spool.store(
        dataset.StudyInstanceUID, dataset.SOPInstanceUID, [path.read_bytes()]
    ).file_name


def received(machines: Machines) -> list[Path]:
    return sorted((machines.folder / "node" / "spool").glob("*/*.dcm"))


def quarantined(machines: Machines) -> list[Path]:
    return sorted((machines.folder / "node" / "quarantine").iterdir())


def test_received_files_leave_when_the_store_has_had_their_pack_long_enough(machines: Machines) -> None:
    clear(machines, after=None)
    clear(machines, after=timedelta(days=36500))
    assert len(received(machines)) == 4

    clear(machines)

    assert received(machines) == quarantined(machines) == []
    assert len(machines.packs()) == 1
    assert machines.actions()[-1] == "study.left_node"
    look(machines)
    assert machines.study().state is State.NOT_ASSESSABLE


def damage(machines: Machines) -> None:
    flip(machines.packs()[0])


def lose(machines: Machines) -> None:
    machines.packs()[0].unlink()


@pytest.mark.parametrize("harm", [damage, lose])
def test_a_pack_that_is_damaged_or_gone_is_made_again_before_the_received_files_go(
    machines: Machines, harm: Callable[[Machines], None]
) -> None:
    harm(machines)

    clear(machines)
    assert len(received(machines)) == 4
    look(machines)
    assert machines.take_jobs() == []  # the study has its score
    clear(machines)

    assert received(machines) == []
    assert machines.study().state is State.NOT_ASSESSABLE


def test_a_pack_that_is_gone_holds_up_no_other_study(machines: Machines) -> None:
    lose(machines)
    gone = machines.key
    machines.receive(Phantom(name="other"))
    look(machines)
    assert machines.work() == []

    clear(machines)

    assert {path.parent.name for path in received(machines)} == {gone}


def test_a_late_instance_is_packed_with_those_that_left(machines: Machines) -> None:
    clear(machines)

    take_in(machines, slice(4, None))

    assert [revision.pack for revision in machines.revisions()] == [PackState.DELETED, PackState.CONFIRMED]
    assert len(received(machines)) == 2
    assert machines.study().state is State.NOT_ASSESSABLE
    clear(machines)
    assert received(machines) == []


def test_a_copy_whose_header_was_changed_on_its_way_does_not_stand_for_what_was_packed(
    machines: Machines,
) -> None:
    clear(machines)
    changed(machines)

    take_in(machines, slice(4, None))

    assert [revision.pack for revision in machines.revisions()] == [PackState.DELETED, PackState.CONFIRMED]
    assert machines.study().state is State.NOT_ASSESSABLE


def test_a_late_instance_of_a_study_whose_only_pack_is_gone_is_told(machines: Machines) -> None:
    clear(machines)
    machines.packs()[0].unlink()

    machines.receive(slices=slice(4, None))
    look(machines)

    assert (machines.study().state, machines.study().reason) == (State.FAILED, "instances_missing")
    assert len(received(machines)) == 2


def test_a_copy_that_comes_again_goes_and_another_image_of_that_name_is_kept(machines: Machines) -> None:
    clear(machines)
    machines.receive(slices=slice(0, 1))
    file_name = changed(machines)
    look(machines)

    clear(machines)

    assert received(machines) == []
    assert len(quarantined(machines)) == 1
    assert conflicts(machines.spool.quarantined) == {(machines.key, file_name)}
    assert len(machines.revisions()) == 1


def test_killed_while_it_clears_it_goes_on_at_the_next_start(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def die(*_: object, **__: object) -> None:
            raise Killed

        patch.setattr(Path, "unlink", die)
        with pytest.raises(Killed):
            clear(machines)
    assert len(received(machines)) == 4

    look(machines)  # as after a restart
    clear(machines)

    assert received(machines) == []
