from dicom_node.door import Door
from dicom_node.places import Places


class Association:
    pass


def test_one_address_has_its_share_and_others_are_let_in() -> None:
    door = Door(Places().of(0), most=10, most_of_one=2)
    inside = [Association(), Association()]
    for association in inside:
        assert door.admits("10.0.0.1")
        door.enter(association, "10.0.0.1")

    assert not door.admits("10.0.0.1")
    assert door.admits("10.0.0.2")

    door.leave(inside[0])
    door.leave(inside[0])
    assert door.admits("10.0.0.1")


def test_all_together_have_a_limit_too() -> None:
    door = Door(Places().of(0), most=3, most_of_one=2)
    inside = [Association() for _ in range(3)]
    for number, association in enumerate(inside):
        door.enter(association, f"10.0.0.{number}")

    assert not door.admits("10.0.0.9")


def test_an_association_that_is_gone_holds_no_place() -> None:
    """Whatever forgets to say good-bye."""
    door = Door(Places().of(0), most=1, most_of_one=1)
    door.enter(Association(), "10.0.0.1")

    assert door.admits("10.0.0.1")
