import errno
import os
from pathlib import Path

import pytest

from service.doctor import disk
from service.doctor.answers import Check, Outcome
from service.settings import load_settings


def log_of(data: Path, segment: str) -> Check:
    """What is told of a log that holds one segment."""
    (data / "log").mkdir()
    (data / "log" / f"{segment}.1.4096.{'0' * 32}").write_bytes(b"")
    (found,) = [check for check in disk.examine(load_settings(data=data)) if check.about == "log"]
    return found


def test_a_log_that_was_handed_over_a_moment_ago_is_well(tmp_path: Path) -> None:
    assert log_of(tmp_path, "sealed").outcome is Outcome.OK


def test_a_log_that_nobody_empties_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOG_S", -1.0)

    found = log_of(tmp_path, "sealed")

    assert found.outcome is Outcome.FAILED
    assert "log not emptied" in found.remedy


def test_a_log_with_damaged_records_is_told(tmp_path: Path) -> None:
    found = log_of(tmp_path, "damaged.sealed")

    assert found.outcome is Outcome.FAILED
    assert "sent again" in found.remedy


def test_a_full_disk_is_told_with_room_as_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk, "write_durably", full)

    found = [check for check in disk.examine(load_settings(data=tmp_path)) if "writing" in check.about]

    assert {check.outcome for check in found} == {Outcome.FAILED}
    assert all("Free room" in check.remedy for check in found)
