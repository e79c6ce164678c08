import numpy as np

from models.evaluation.objects import Objects, count_objects


def _square(top: int, left: int, side: int) -> np.ndarray:
    plane = np.zeros((40, 40), dtype=np.bool_)
    plane[top : top + side, left : left + side] = True
    return plane


def test_a_component_in_the_middle_of_an_object_finds_it() -> None:
    assert count_objects(_square(11, 11, 8), _square(10, 10, 10)) == Objects(found=1, alarms=0, missed=0)


def test_a_component_more_than_twice_as_large_or_less_than_half_does_not() -> None:
    truth = _square(10, 10, 10)
    nothing = Objects(found=0, alarms=1, missed=1)

    assert count_objects(_square(8, 8, 15), truth) == nothing  # 225 of 100 pixels
    assert count_objects(_square(12, 12, 7), truth) == nothing  # 49 of 100 pixels


def test_a_component_whose_centre_is_outside_is_a_false_alarm() -> None:
    assert count_objects(_square(16, 16, 10), _square(10, 10, 10)) == Objects(found=0, alarms=1, missed=1)


def test_an_object_is_found_once() -> None:
    truth = _square(10, 10, 10)
    two = truth.copy()
    two[10:20, 15] = False  # Five and four columns: 50 and 40 pixels.
    assert count_objects(two, truth) == Objects(found=1, alarms=1, missed=0)


def test_specks_are_dropped_and_an_empty_scan_has_nothing() -> None:
    nothing = np.zeros((40, 40), dtype=np.bool_)
    assert count_objects(_square(0, 0, 2), nothing, smallest=5) == Objects(found=0, alarms=0, missed=0)
    assert count_objects(nothing, _square(3, 3, 4)) == Objects(found=0, alarms=0, missed=1)


def test_slices_of_a_stack_are_one_object() -> None:
    truth = np.stack([_square(10, 10, 10)] * 3)
    assert count_objects(truth, truth) == Objects(found=1, alarms=0, missed=0)
