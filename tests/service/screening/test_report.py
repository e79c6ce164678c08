import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from models.discoveries import adjusted
from service.cli import app
from service.screening.report import Reporter
from service.screening.summary import Summary
from service.screening.tables import FINDINGS, RANKED
from service.store import cohorts
from service.study import MemberState, State
from tests.seeds import Seed, plant
from tests.service.screening.conftest import P_VALUES, Screened

pytestmark = pytest.mark.postgres


class Seen(HTMLParser):
    """Addresses and tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in {"src", "href", "action"}]


def write(screened: Screened, folder: Path) -> Summary:
    return Reporter(store=screened.store, objects=screened.objects, folder=folder).write(screened.cohort)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_ranks_what_was_scored_and_hides_nothing(screened: Screened, tmp_path: Path) -> None:
    summary = write(screened, tmp_path)
    found = rows(tmp_path / "ranked.csv")

    keys = screened.keys
    assert [row["study"] for row in found[:4]] == [keys[name] for name in ("odd", "odder", "usual", "calm")]
    assert [row["rank"] for row in found] == ["1", "2", "3", "4", "", "", ""]
    assert sorted((row["outcome"], row["reason"]) for row in found[4:]) == [
        ("failed", "attempts_used_up"),
        ("left_out", "not_found"),
        ("not_assessable", "localiser"),
    ]
    assert all(row["percentile"] == row["p_value"] == row["on_list"] == "" for row in found[4:])
    assert [float(row["q_value"]) for row in found[:4]] == pytest.approx(list(adjusted(P_VALUES)))
    assert [row["on_list"] for row in found[:4]] == ["yes", "yes", "no", "no"]
    assert summary.members == 7
    assert list(found[0]) == list(RANKED)


def test_a_study_of_which_a_part_came_has_no_number_though_that_was_scored(
    screened: Screened, tmp_path: Path
) -> None:
    key = screened.keys["calm"]
    with screened.store.transaction() as session:
        cohorts.leave_out(session, screened.cohort.id, {key: "incomplete"})

    summary = write(screened, tmp_path)

    (row,) = [row for row in rows(tmp_path / "ranked.csv") if row["study"] == key]
    assert (row["outcome"], row["reason"]) == ("left_out", "incomplete")
    assert row["rank"] == row["percentile"] == row["p_value"] == row["on_list"] == ""
    assert (summary.scored, sum(summary.histogram)) == (3, 3)


def test_a_strangers_text_is_no_formula(screened: Screened, tmp_path: Path) -> None:
    write(screened, tmp_path)
    (broken,) = [row for row in rows(tmp_path / "ranked.csv") if row["outcome"] == "failed"]
    assert broken["modality"] == "'=cmd()"


def test_findings_have_size_and_place(screened: Screened, tmp_path: Path) -> None:
    write(screened, tmp_path)
    first, second = rows(tmp_path / "findings.csv")[:2]
    assert list(first) == list(FINDINGS)
    assert (first["study"], first["number"], second["number"]) == (screened.keys["odd"], "1", "2")
    assert float(first["volume_mm3"]) == 4210.0
    # A ball of 4,210 mm3 has a radius of cbrt(4210 / (4 / 3 * 3.14159)) = 10.02 mm.
    assert float(first["diameter_mm"]) == pytest.approx(20.03, abs=0.01)
    assert [first["side"], second["side"]] == ["left", "right"]
    assert (first["x_mm"], first["slice"]) == ("21.4", "3")


def test_the_page_needs_no_script_and_no_network_and_says_the_caveats(
    screened: Screened, tmp_path: Path
) -> None:
    write(screened, tmp_path)
    page = (tmp_path / "report.html").read_text()
    seen = Seen()
    seen.feed(page)
    assert "script" not in seen.tags
    assert "link" not in seen.tags
    assert all(address.startswith("data:") for address in seen.addresses)
    assert "url(" not in page
    assert "Spring &lt;b&gt;2026" in page
    assert "not a diagnosis" in page
    words = re.sub(r"<[^>]+>|\s+", " ", page)
    assert "3 of 7 studies have no score." in words
    assert re.search(r"2 of 4 scored studies\s+are on it", words)
    assert "The peer has no such study" in words
    # Six reference studies: p is at least 1 / 7, and 4 * (1 / 7) / 0.1 = 5.7 studies would have to share it.
    assert re.search(r"too small for a list of this cohort:\s+6 studies", words)


def test_the_same_rows_give_the_same_bytes(screened: Screened, tmp_path: Path) -> None:
    write(screened, tmp_path / "a")
    write(screened, tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"ranked.csv", "findings.csv", "report.html"} <= set(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_parquet_has_the_same_rows_with_their_types(screened: Screened, tmp_path: Path) -> None:
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    write(screened, tmp_path)
    found = parquet.read_table(tmp_path / "ranked.parquet").to_pylist()
    assert [row["p_value"] for row in found] == [*P_VALUES, None, None, None]
    assert [row["study"] for row in found] == [row["study"] for row in rows(tmp_path / "ranked.csv")]


def test_an_empty_cohort_has_a_report(screened: Screened, tmp_path: Path) -> None:
    with screened.store.transaction() as session:
        empty = cohorts.begin(session, name="none", source="other", q=0.05, actor="me")
    Reporter(store=screened.store, objects=screened.objects, folder=tmp_path).write(empty)
    assert "No study was scored." in (tmp_path / "report.html").read_text()
    assert rows(tmp_path / "ranked.csv") == []


def test_the_command_tells_of_studies_that_have_not_ended(screened: Screened, tmp_path: Path) -> None:
    waiting = Seed(name="waiting", state=State.QUEUED)
    with screened.store.transaction() as session:
        plant(session, waiting)
        cohorts.have(session, screened.cohort.id, {waiting.key: 1}, state=MemberState.TAKEN)

    done = CliRunner(env={"VIGIL_DATABASE_URL": screened.store.url, "VIGIL_DATA": str(tmp_path)}).invoke(
        app, ["cohorts", "report", str(screened.cohort.id), "--out", str(tmp_path / "report")]
    )

    assert "8 studies: 4 scored" in done.stdout
    assert "1 could not be had, 1 have not ended;" in done.stdout
