import fcntl
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dicom_node.signals import MOST_OF_A_STUDY, Signal, SignalKind, Signals, missing

KEY = "a" * 20
STEP = Signal(kind=SignalKind.PERFORMED_STEP, is_final=True, instances=frozenset({"x", "y"}))
BEGUN = Signal(kind=SignalKind.PERFORMED_STEP, is_final=False, instances=frozenset())


@pytest.fixture
def signals(tmp_path: Path) -> Signals:
    return Signals(tmp_path / "signals")


def test_a_message_is_read_as_it_was_put(signals: Signals) -> None:
    signals.put(KEY, "1.2.3", STEP)

    assert signals.of(KEY) == (STEP,)
    assert signals.of("b" * 20) == ()


def test_a_later_message_of_one_uid_takes_the_place_of_the_earlier(signals: Signals) -> None:
    signals.put(KEY, "1.2.3", BEGUN)
    signals.put(KEY, "1.2.3", STEP)
    signals.put(KEY, "1.2.4", BEGUN)

    assert sorted(signals.of(KEY), key=lambda one: one.is_final) == [BEGUN, STEP]


def test_what_cannot_be_read_is_as_if_it_had_not_come(signals: Signals, tmp_path: Path) -> None:
    signals.put(KEY, "1.2.3", STEP)
    folder = tmp_path / "signals" / "studies" / KEY
    for number, content in enumerate(["{", "[]", '{"is_final": true}', '{"is_final": 1, "instances": 3}']):
        (folder / f"mpps-{number:032x}.json").write_text(content)
    (folder / f"unheard_of-{'0' * 32}.json").write_text('{"is_final": true, "instances": []}')

    assert signals.of(KEY) == (STEP,)


def test_a_peer_cannot_fill_the_disk_of_a_study(signals: Signals) -> None:
    for number in range(MOST_OF_A_STUDY + 5):
        signals.put(KEY, f"1.2.{number}", BEGUN)

    assert len(signals.of(KEY)) == MOST_OF_A_STUDY


def test_nothing_but_a_study_key_becomes_a_path(signals: Signals) -> None:
    with pytest.raises(ValueError, match="not a study key"):
        signals.put("../x", "1.2.3", STEP)


def test_what_is_old_is_swept(signals: Signals, tmp_path: Path) -> None:
    signals.put(KEY, "1.2.3", STEP)
    signals.put_step("1.2.3", {"state": "COMPLETED"})

    assert signals.sweep() == 0
    assert signals.sweep(older_than_s=0.0) == 2
    assert signals.of(KEY) == ()
    assert signals.step("1.2.3") is None
    assert not (tmp_path / "signals" / "studies" / KEY).exists()


def test_what_is_announced_and_not_there_is_counted() -> None:
    assert missing([STEP, BEGUN], frozenset({"x"})) == 1
    assert missing([], frozenset()) == 0


def test_a_sender_is_open_until_its_last_association_ends(signals: Signals) -> None:
    signals.association_opened(1, "MR1")
    signals.association_opened(2, "MR1")
    signals.association_closed(1)
    between = signals.open_senders()
    signals.association_closed(2)
    signals.association_closed(2)

    assert (between, signals.open_senders()) == ({"MR1"}, frozenset())


def test_an_association_that_a_full_disk_keeps_from_being_noted_leaves_nothing(
    signals: Signals, tmp_path: Path
) -> None:
    signals.association_opened(1, "MR1")
    before = sorted(tmp_path.rglob("*")), len(list(Path("/proc/self/fd").iterdir()))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))  # names can be made, content not
    try:
        with pytest.raises(OSError, match="large"):
            signals.association_opened(2, "MR2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    assert (sorted(tmp_path.rglob("*")), len(list(Path("/proc/self/fd").iterdir()))) == before
    signals.association_closed(1)


def test_the_associations_of_a_killed_process_are_over(signals: Signals, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from dicom_node.signals import Signals\n"
        "signals = Signals(Path(sys.argv[1])); signals.association_opened(1, 'CT1')\n"
        "print('open', flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "signals")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    while_it_lives = signals.open_senders()
    process.kill()
    process.wait()
    process.stdout.close()

    assert while_it_lives == {"CT1"}
    assert signals.open_senders() == frozenset()
    time.sleep(1.1)  # older than one that is about to be locked
    signals.open_senders()
    assert list((tmp_path / "signals" / "open").iterdir()) == []


def test_a_note_is_made_while_others_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks whether a note's owner lives holds its lock for a moment."""
    signals = Signals(tmp_path)
    real_flock = fcntl.flock
    looks: list[int] = []

    def flock(file: Any, operation: int) -> None:
        if not looks:
            (note,) = (tmp_path / "open").iterdir()
            looks.append(os.open(note, os.O_RDWR))
            real_flock(looks[0], fcntl.LOCK_EX)
            threading.Timer(0.1, os.close, [looks[0]]).start()
        real_flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    signals.association_opened(1, "MR1")

    assert signals.open_senders() == {"MR1"}
    signals.association_closed(1)
