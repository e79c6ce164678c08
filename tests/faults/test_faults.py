"""The short form: every fault a few times on one running site. ``python -m tests.faults`` has the long one."""

import time
from collections.abc import Iterator

import pytest

from tests.end_to_end.peers import MISSING
from tests.faults.auditor import Auditor
from tests.faults.site import site
from tests.faults.suite import CASES, Case, run_case

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(300)]

SEED = 1
SHORT = [case for case in CASES if case.short]


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Auditor]:
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    with site(tmp_path_factory.mktemp("faults") / "site") as running:
        yield Auditor(running)


@pytest.mark.parametrize("case", SHORT, ids=[case.name for case in SHORT])
def test_a_fault_loses_nothing_doubles_nothing_strands_nothing(auditor: Auditor, case: Case) -> None:
    outcome = run_case(case, auditor.site, auditor, seed=SEED, repetitions=case.short)

    assert outcome.findings == ()
    assert outcome.repetitions == case.short


def test_an_orderly_stop_is_quick_and_leaves_no_process(auditor: Auditor) -> None:
    begun = time.monotonic()

    auditor.site.stop()

    assert time.monotonic() - begun < 30
