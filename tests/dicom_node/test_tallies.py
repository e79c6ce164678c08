import os

import pytest

from dicom_node.handlers import Counters
from dicom_node.tallies import ASSOCIATIONS, INSTANCES, Tallies


def in_a_child(tallies: Tallies, process: int, *names: str) -> None:
    """Count in a process forked now, as an acceptor does."""
    pid = os.fork()
    if pid == 0:
        counters = Counters(tallies.of(process))
        for name in names:
            counters.add(name)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_what_forked_processes_count_is_added_up_and_outlives_them() -> None:
    tallies = Tallies(2)
    in_a_child(tallies, 0, "stored", "association_rejected")
    in_a_child(tallies, 1, "stored", "stored", "refused_full")
    in_a_child(tallies, 0, "stored")  # takes the place of the first

    assert tallies.instances() == dict.fromkeys(INSTANCES, 0) | {"stored": 4, "refused_full": 1}
    assert tallies.associations() == dict.fromkeys(ASSOCIATIONS, 0) | {"rejected": 1}


def test_a_name_that_the_table_does_not_have_is_an_error() -> None:
    with pytest.raises(KeyError):
        Tallies(1).of(0).add("elsewhere")
