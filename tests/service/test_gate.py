"""Odd and hostile files through reader, gate and a model that takes whatever it can."""

from pathlib import Path

import pytest

from models.errors import Reason
from tests.benchmarks.gate import SCORED, endings, greedy


@pytest.mark.slow
def test_every_file_ends_in_a_score_or_a_coded_reason(test_data: Path, tmp_path: Path) -> None:
    """An exception here is a crash of a worker; the shipped model meets the same files end to end."""
    found = list(endings(test_data / "dicom", {"any MR": greedy("MR", tmp_path)}))

    assert len(found) > 540
    assert {one.ending for one in found} <= {SCORED, *Reason}
    assert not [one for one in found if one.folder.startswith("malformed") and one.ending == SCORED]
    assert sum(one.ending == SCORED for one in found) >= 5
