"""Kill -9 of every role while studies come in: the list ends the same, and no result is there twice."""

import os
import threading
import time
from collections import Counter
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from service.demonstration.studies import DemonstrationStudy
from tests.end_to_end.conftest import FullRun
from tests.end_to_end.machine import SCANNER, Machine, has_ended, machine
from tests.end_to_end.peers import orthanc, storescu

# Every run kills each role among the faults; this is the same from the newcomer's side, three minutes long.
pytestmark = [pytest.mark.peers, pytest.mark.long, pytest.mark.timeout(900)]

# Longer than a killed node needs to come back: a study cut in two by the kill is not yet complete.
QUIET_S = 15
KILLS = (("node",), ("worker", "infer"), ("postgres",))


def test_the_list_ends_the_same_when_node_worker_and_database_are_killed(
    full_run: FullRun, demonstration: tuple[DemonstrationStudy, ...], tmp_path: Path
) -> None:
    secret = (full_run.machine.data / "site.key").read_bytes()
    data = tmp_path / "vigil"
    data.mkdir()
    (data / "site.key").write_bytes(secret)  # the same pseudonyms, so that the lists compare
    (data / "site.key").chmod(0o600)
    with orthanc(tmp_path / "orthanc") as archive, machine(data, archive, quiet_s=QUIET_S) as running:
        sender = threading.Thread(target=_send_all, args=(demonstration, running))
        sender.start()
        killed = [_kill_when_it_hurts(running, words) for words in KILLS]
        sender.join()
        rows = running.wait_until(has_ended(len(demonstration)))
        objects = Counter(
            pydicom.dcmread(BytesIO(archive.file(name)), stop_before_pixels=True).SOPInstanceUID
            for name in archive.instances()
        )

    assert all(not _is_alive(pid) for pid in killed)
    assert [(row["key"], row["state"], row["rank"]) for row in rows] == [
        (row["key"], row["state"], row["rank"]) for row in full_run.rows
    ]
    assert [row["assessment"] and row["assessment"]["study_score"] for row in rows] == [
        row["assessment"] and row["assessment"]["study_score"] for row in full_run.rows
    ]
    assert sum(objects.values()) == sum(len(row["results"]) for row in rows)
    assert set(objects.values()) == {1}


def _send_all(studies: tuple[DemonstrationStudy, ...], running: Machine) -> None:
    """Send as a patient scanner would: again until the node says it has every image."""
    for study in studies:
        deadline = time.monotonic() + 120
        while storescu(study.paths, running.port, called="VIGIL", calling=SCANNER).returncode != 0:
            assert time.monotonic() < deadline, "the node never took the study"
            time.sleep(0.5)


def _kill_when_it_hurts(running: Machine, words: tuple[str, ...]) -> int:
    """Kill a role in the middle of the work, and give its successor time to take over."""
    time.sleep(4)
    deadline = time.monotonic() + 60
    while True:
        try:
            pid = running.kill(*words)
        except LookupError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return pid


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
