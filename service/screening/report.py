"""The report of a cohort: tables, and one page that needs no script and no network and prints."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dicom_node.errors import UnreadableInstanceError
from dicom_node.picture import encode_png, read_frame, shrink
from models.discoveries import least_reference
from service import __version__, why
from service.errors import StorageError
from service.screening import tables
from service.screening.findings import finding_rows, findings_of, ranked, row_of
from service.screening.summary import BINS, LISTED_SHOWN, Summary
from service.store import Store, cohort_results
from service.store.cohorts import Cohort
from service.store.objects import LocalObjects
from service.study import DISCLAIMER

HERE = Path(__file__).parent
SHEET = 12  # pictures of a page
PICTURES = 48
LONGEST_PX = 360  # of a picture
EXPECTED = (1, 10, 100)  # findings a cohort may hold, for the table of what a list needs

REASONS = {
    "not_found": "The peer has no such study",
    "not_fetched": "The peer did not send it",
    "incomplete": "The peer did not send all of it",
    "gone": "The source had it no longer",
    "unreadable": "None of its files can be read",
}
FILES = {
    "stored": "copied",
    "duplicate": "copies of what was there",
    "conflict": "other content under a known UID (kept in quarantine)",
    "known": "known before, not copied",
    "own_result": "results of Vigil, not copied",
    "not_an_image": "no DICOM instance that is kept",
    "unreadable": "cannot be read",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Writes reports.

    Attributes
    ----------
    store : Store
    objects : LocalObjects
        Where the pictures are.
    folder : Path
        Made where it is missing; what stands there under our names is replaced.
    pictures : int
        Of the most unusual studies on the sheets.
    """

    store: Store
    objects: LocalObjects
    folder: Path
    pictures: int = PICTURES

    def write(self, cohort: Cohort) -> Summary:
        """Write ``ranked``, ``findings`` and ``report.html``; the same rows give the same bytes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        summary = Summary(top_wanted=self.pictures)
        with (
            self.store.transaction() as session,
            tables.tables(
                (self.folder / "ranked", tables.RANKED), (self.folder / "findings", tables.FINDINGS)
            ) as (rows, objects),
        ):
            for item in ranked(session, cohort.id, cohort.q):
                rows.add(row_of(item))
                for finding in finding_rows(item):
                    objects.add(finding)
                summary.add(item)
        page = self._page(cohort, summary)
        (self.folder / "report.html").write_text(page, encoding="utf-8")
        return summary

    def _page(self, cohort: Cohort, summary: Summary) -> str:
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        pictures = self._pictures(summary)
        shown = [item for item in summary.top if item.result.mark in pictures]
        return environment.get_template("report.html").render(
            cohort=cohort,
            summary=summary,
            pictures=pictures,
            sheets=[shown[start : start + SHEET] for start in range(0, len(shown), SHEET)],
            findings_of=findings_of,
            reason=lambda code: REASONS.get(code) or why.reason(code),
            file_words=FILES,
            bars=_bars(summary),
            needs=[
                (count, least_reference(cohort.q, summary.scored, count))
                for count in EXPECTED
                if count <= summary.scored
            ]
            if summary.scored
            else [],
            shown_most=LISTED_SHOWN,
            has_parquet=tables.has_parquet(),
            disclaimer=DISCLAIMER,
            version=__version__,
        )

    def _pictures(self, summary: Summary) -> Mapping[str, str]:
        """Pictures as data addresses, by study; what cannot be read is left out and the page says so."""
        keys = [item.result.mark for item in summary.top]
        with self.store.transaction() as session:
            stored = cohort_results.pictures_of(session, keys)
        found = {}
        for item in summary.top:
            file, result = stored.get(item.result.mark), item.result
            if file is None:
                continue
            frame = int(result.regions[0]["slice_index"]) if result.regions else result.slices // 2
            try:
                with self.objects.local(file.path, file.sha256, file.bytes) as path:
                    picture = shrink(read_frame(path, min(frame, max(result.slices - 1, 0))), LONGEST_PX)
            except (OSError, StorageError, UnreadableInstanceError, IndexError) as error:
                log.warning("picture cannot be read", study=result.mark, error=type(error).__name__)
                continue
            found[result.mark] = f"data:image/png;base64,{base64.b64encode(encode_png(picture)).decode()}"
        return found


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the histogram, in parts of its drawing's height of 100."""

    low: float
    high: float
    count: int
    height: float


def _bars(summary: Summary) -> list[Bar]:
    most = max(*summary.histogram, 1)
    return [
        Bar(number / BINS, (number + 1) / BINS, count, 100.0 * count / most)
        for number, count in enumerate(summary.histogram)
    ]
