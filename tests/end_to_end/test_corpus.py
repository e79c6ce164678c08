"""Every DICOM file at hand, sent byte for byte: stored and coded, or refused with a status."""

from collections import Counter
from pathlib import Path

import pytest

from dicom_node.reader import list_series
from models.errors import Reason
from tests.end_to_end.machine import SCANNER, has_ended, machine
from tests.end_to_end.peers import MISSING, echoscu
from tests.end_to_end.raw import read_raw, send_raw

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def corpus(test_data: Path) -> list[Path]:
    return sorted(
        path
        for path in (test_data / "dicom").rglob("*")
        if path.suffix not in {".csv", ".md"} and path.is_file()
    )


@pytest.mark.skipif(bool(MISSING), reason="dcmtk is not installed")
@pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.long)])
def test_every_file_ends_stored_and_coded_or_refused_with_a_status(
    corpus: list[Path], tmp_path: Path, step: int
) -> None:
    statuses: Counter[str] = Counter()
    with machine(tmp_path / "vigil", None) as running:
        for path in corpus[::step]:
            instance = read_raw(path)
            if instance is None:
                continue
            status = send_raw(instance, running.port, called="VIGIL", calling=SCANNER)
            statuses["refused" if status is None else f"{status >> 12:X}xxx" if status else "stored"] += 1
        assert echoscu(running.port, called="VIGIL", calling=SCANNER)
        running.wait_until_kept()
        studies = sum(1 for folder in (running.data / "spool").iterdir() if not folder.name.startswith("."))
        rows = running.wait_until(has_ended(studies))
        kept = sum(1 for _ in (running.data / "quarantine").iterdir())

    assert statuses["stored"] > 300 / step
    assert kept >= statuses["Cxxx"] > 0
    assert len(rows) == studies
    codes = {reason.value for reason in Reason}
    assert {row["reason"] for row in rows if row["state"] == "not_assessable"} <= codes
    assert all(row["assessment"] is None for row in rows if row["state"] != "scored")
    assert not [row for row in rows if row["state"] == "failed"]


def test_what_no_sender_could_send_is_coded_by_the_reader(corpus: list[Path]) -> None:
    unsendable = [path for path in corpus if read_raw(path) is None]

    coded = {path: list_series([path]) for path in unsendable}

    assert len(unsendable) > 10
    assert all(len(series) == 1 and series[0].reason is not None for series in coded.values())
