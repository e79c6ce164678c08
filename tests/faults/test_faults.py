"""The short form: every fault a few times. ``python -m tests.faults --long`` has the long one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.peers import MISSING
from tests.faults.auditor import Auditor
from tests.faults.places import UnavailableError, ordinary
from tests.faults.suite import CASES, Case, run_case

pytestmark = [
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # above what each wait within allows
    # The counting store collects the garbage of this process, that of the tests before among it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SEED = 1
STOPPED_S = 60.0
SHORT = [case for case in CASES if case.short and case.among_tests]
SHARED = [case for case in SHORT if case.place is ordinary]
APART = [case for case in SHORT if case.place is not ordinary]


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Auditor]:
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    with ordinary(tmp_path_factory.mktemp("faults") / "site") as running:
        yield Auditor(running)


@pytest.mark.parametrize("case", SHARED, ids=[case.name for case in SHARED])
def test_a_fault_loses_nothing_doubles_nothing_strands_nothing(auditor: Auditor, case: Case) -> None:
    try:
        outcome = run_case(case, auditor.site, auditor, seed=SEED, repetitions=case.short)
    except UnavailableError as error:
        pytest.skip(str(error))

    assert outcome.findings == ()
    assert outcome.repetitions == case.short


def test_an_orderly_stop_is_quick_and_leaves_no_process(auditor: Auditor) -> None:
    assert auditor.site.stop() < STOPPED_S


@pytest.mark.parametrize("case", APART, ids=[case.name for case in APART])
def test_a_machine_that_fails_underneath_loses_nothing(case: Case, tmp_path: Path) -> None:
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    try:
        with case.place(tmp_path / "site") as running:
            outcome = run_case(case, running, Auditor(running), seed=SEED, repetitions=case.short)
    except UnavailableError as error:
        pytest.skip(str(error))

    assert outcome.findings == ()
    assert outcome.repetitions == case.short
