"""A cohort is scored exactly once, whoever is killed while it is screened."""

import csv
import json
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from service.store import audit
from tests.benchmarks.pool import database
from tests.cohorts import Screen, write_cohort
from tests.faults import processes

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TIMEOUT_S = 1500.0
LOOK_S = 0.2


def _wait_until_ended(screen: Screen, process: subprocess.Popen[bytes], count: float) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while screen.ended < count:
        assert process.poll() is None, screen.log()
        assert time.monotonic() < deadline, screen.log()
        time.sleep(LOOK_S)


def screened(folder: Path, count: int, kills: list[tuple[str, float]]) -> Screen:
    """Screen a folder, killing -9 what is named at each share of ended studies; then let it end."""
    source = folder / "source"
    write_cohort(source, count)
    screen = Screen(folder=folder, source=source)
    process = screen.start()
    for what, share in kills:
        _wait_until_ended(screen, process, share * count)
        if what == "screen":
            screen.kill(process)
            process = screen.start()
            continue
        pid = screen.role(process, *{"infer": ("--pool", "infer"), "node": ("node",)}[what])
        assert pid is not None, screen.log()
        processes.kill([pid])
    assert process.wait(timeout=TIMEOUT_S) == 0, screen.log()
    return screen


def require_once(screen: Screen, count: int) -> None:
    """Every study has one revision, one score and one audit row of its end; the table has each once."""
    told = json.loads(screen.log()[screen.log().rindex('{\n "cohort"') :])
    assert (told["studies"], told["scored"]) == (count, count), screen.log()
    with (screen.out / "ranked.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["study"] for row in rows}) == len(rows) == count
    assert [int(row["rank"]) for row in rows] == list(range(1, count + 1))
    with database(screen.data, None) as store, store.transaction() as session:
        audit.verify(session)
        for table in ("study", "revision", "score", "cohort_study"):
            assert session.scalar(text(f"SELECT count(*) FROM vigil.{table}")) == count  # noqa: S608 - of ours
        ends = "SELECT count(*), count(DISTINCT study_key) FROM vigil.audit WHERE action = 'study.scored'"
        assert tuple(session.execute(text(ends)).one()) == (count, count)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_dozen_studies_are_scored_once_though_the_command_is_killed(tmp_path: Path) -> None:
    screen = screened(tmp_path, 12, [("screen", 0.25)])
    require_once(screen, 12)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_thousand_studies_are_scored_once_through_three_kills(tmp_path: Path) -> None:
    screen = screened(tmp_path, 1000, [("screen", 0.05), ("infer", 0.3), ("node", 0.5)])
    require_once(screen, 1000)
