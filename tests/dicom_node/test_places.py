import gc
import os

from dicom_node.places import MOST, Places


class Association:
    pass


def test_processes_count_together_and_a_successor_clears_what_the_dead_left() -> None:
    places = Places(2)
    first = places.of(0)
    child = os.fork()
    if child == 0:
        mine = places.of(1)
        kept = [Association(), Association()]
        is_let_in = all(mine.enter(one, "10.0.0.1", most=3) for one in kept)
        os._exit(0 if is_let_in else 1)  # as a process that is killed: nothing is given back
    assert os.waitpid(child, 0)[1] == 0

    one, two = Association(), Association()
    assert first.count("10.0.0.1") == 2
    assert first.enter(one, "10.0.0.2", most=3)
    assert not first.enter(two, "10.0.0.2", most=3)
    assert (first.count(), first.count("10.0.0.2")) == (3, 1)

    places.of(1)
    assert first.count() == 1
    assert first.enter(two, "10.0.0.2", most=3)


def test_a_place_is_given_back_once_however_its_owner_goes() -> None:
    part = Places().of(0)
    leaving, gone, staying = Association(), Association(), Association()
    for owner in (leaving, gone):
        part.enter(owner, "10.0.0.1")
    part.leave(leaving)
    part.leave(leaving)
    part.enter(staying, "10.0.0.2")
    del gone, owner
    gc.collect()

    assert (part.count("10.0.0.1"), part.count()) == (0, 1)


def test_a_part_is_never_more_than_full() -> None:
    part = Places(2).of(0)
    owners = [Association() for _ in range(MOST + 1)]

    assert [part.enter(owner, "10.0.0.1", most=2 * MOST) for owner in owners] == [True] * MOST + [False]
