"""Node, workers and database on machines of their own, and a network that fails in mid work."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec

import psycopg
import pytest

from service.store import conninfo
from service.store.audit import LOCK
from tests.end_to_end.peers import MISSING
from tests.faults import network
from tests.faults.auditor import Auditor
from tests.faults.network import Cut
from tests.faults.two_machines import BASE, NODE, WORK, Machines, machines

pytestmark = [pytest.mark.peers, pytest.mark.long, pytest.mark.timeout(400)]

CUT_S = 5.0
LONG_CUT_S = 30.0
GOES_ON_S = 60.0  # after the network is back: new work is done
TAKEN_BACK_S = 45.0  # locks of a machine that is gone


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Auditor]:
    reason = f"not installed: {', '.join(MISSING)}" if MISSING else network.why_not()
    if reason:
        pytest.skip(reason)
    has_bucket = all(find_spec(name) is not None for name in ("moto", "s3fs"))
    with machines(tmp_path_factory.mktemp("machines") / "site", has_bucket=has_bucket) as running:
        yield Auditor(running)


CASES = [
    (WORK, Cut.BROKEN, CUT_S),
    (BASE, Cut.PULLED, CUT_S),
    *((machine, how, LONG_CUT_S) for machine in (WORK, NODE, BASE) for how in Cut),
]


@pytest.mark.parametrize(("machine", "how", "seconds"), CASES)
def test_a_machine_without_network_loses_nothing_and_goes_on(
    auditor: Auditor, machine: str, how: Cut, seconds: float
) -> None:
    site = auditor.site
    assert isinstance(site, Machines)

    with site.traffic().flowing(random.Random(f"{machine} {how}")):  # noqa: S311 - must be repeatable
        time.sleep(2.0)
        with site.net.cut(machine, how):
            time.sleep(seconds)
        healed = time.monotonic()
        _wait_for_new_work(site)
        assert time.monotonic() - healed < GOES_ON_S

    assert auditor.audit() == []


def test_locks_of_a_machine_that_vanished_are_taken_back(auditor: Auditor) -> None:
    """A worker's machine loses power in a transaction: its server connection is told nothing."""
    site = auditor.site
    assert isinstance(site, Machines)
    hold = (
        "import sys, time; from sqlalchemy import text; from service.store import Store\n"
        "with Store.open(sys.argv[1]).transaction() as session:\n"
        f"    session.execute(text('SELECT pg_advisory_xact_lock({LOCK})')); print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [*site.net.on(WORK), sys.executable, "-c", hold, site.inside.database_url],
        env=site.environment,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"

    with site.net.cut(WORK, Cut.BROKEN):
        holder.kill()
        holder.communicate(timeout=60)
        begun = time.monotonic()
        with psycopg.connect(conninfo(site.inside.database_url)) as connection:
            connection.execute(f"SET lock_timeout = '{TAKEN_BACK_S:.0f}s'")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))

    assert time.monotonic() - begun < TAKEN_BACK_S
    assert auditor.audit() == []


def _wait_for_new_work(site: Machines) -> None:
    """Send one more study and wait until all machines have done their part of it."""
    study = site.traffic().send_next()
    key = site.inside.key(study.study_uid)
    deadline = time.monotonic() + 2 * GOES_ON_S
    while time.monotonic() < deadline:
        rows = {row["key"]: row for row in site.machine.worklist()} if site.is_ready() else {}
        results = rows[key]["results"] if key in rows else []
        if results and all(result["status"] == "delivered" for result in results):
            return
        time.sleep(0.5)
    raise AssertionError("no new study was done after the network came back")
