"""The walks of `tests/documents/walks.py`: Orthanc as a page sets it up, Vigil as a page starts it."""

import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.demonstration.studies import write_studies
from tests.documents.pages import ROOT, blocks, shell_blocks
from tests.documents.walks import WALKED, Walk, serves, walked_blocks
from tests.end_to_end.peers import MISSING, Orthanc, free_port, serving, storescu

pytestmark = [
    pytest.mark.peers,
    pytest.mark.postgres,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

RECIPE = "docs/pacs.md"
PATIENCE_S = 120.0


@dataclass(slots=True)
class Site:
    """What the pages speak of: a reader's terminal, a PACS, studies to send."""

    walk: Walk
    data: Path
    archive: Orthanc
    studies: dict[str, Path]  # by title: a folder each

    def listed(self) -> list[dict[str, Any]]:
        said = self.walk.say("./vigil studies list --json")
        rows: list[dict[str, Any]] = json.loads(said)["rows"]
        return rows

    def scored(self) -> list[dict[str, Any]]:
        return [row for row in self.listed() if row["state"] == "scored"]

    def wait_for(self, is_so: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := is_so()):
            assert time.monotonic() < deadline, "it never came to pass"
            time.sleep(0.5)
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The PACS of `docs/pacs.md`, and the Vigil of `docs/start.md`; each begins with what its page says."""
    folder = tmp_path_factory.mktemp("site")
    archive = Orthanc(free_port(), free_port())
    port, api_port = free_port(), free_port()
    values: dict[str, Any] = {
        "11112": str(port),
        "8080": str(api_port),
        "4242": str(archive.dicom_port),
        "8042": str(archive.http_port),
        "10.1.2.3": "127.0.0.1",
        "pacs.example.org": "127.0.0.1",
        "vigil.example.org": "127.0.0.1",
        "$HOME/vigil": str(folder / "data"),
        "$HOME": str(folder),
        "/var/lib/orthanc/db": str(folder / "orthanc"),
        "/etc/orthanc/to-vigil.lua": str(folder / "to-vigil.lua"),
        "/srv/backup": str(folder / "backup"),
        "/data/report": str(folder / "report"),
        "FOLDER": lambda: tempfile.mkdtemp(dir=folder),
        "ARTEFACT": str(ROOT / "models" / "artefacts" / "brain-t1-0.1.0"),
        "DIR": str(ROOT / "models" / "artefacts" / "brain-t1-0.1.0"),
        "NODE-HOST": "127.0.0.1",
        "SCANNER1": "MR1",
        "NAME": "archive",
        "quiet_s: 60": "quiet_s: 2",
        '"StableAge": 5': '"StableAge": 2',
    }
    (folder / "backup").mkdir()
    walk = Walk(folder, values)
    walk.environment |= {
        "VIGIL_PORT": str(port),
        "VIGIL_API_PORT": str(api_port),
        "VIGIL_QUIET_S": "2",
        "VIGIL_FREE_MARK_MB": "64",
        "VIGIL_LOG_MB": "64",
    }
    for block in blocks("docs/pacs.md"):
        name = {"json": "orthanc.json", "lua": "to-vigil.lua"}.get(block.language)
        if name:
            (folder / name).write_text(walk.filled(block.text))
    (begun,) = [block for block in shell_blocks("docs/start.md") if serves(block)]
    with serving(archive, folder / "orthanc.json"):
        output = folder / "vigil.log"
        running = walk.start(begun, output)
        try:
            written = write_studies(folder / "studies")  # while it starts
            studies = {study.label: study.paths[0].parent for study in reversed(written)}
            values |= {"/data/cohort": str(studies["normal"]), "STUDY_FOLDER": str(studies["normal"])}
            found = Site(walk, folder / "data", archive, studies)
            found.wait_for(lambda: walk.not_printed(begun, output.read_text()) is None)
            values["KEY"] = lambda: str(found.wait_for(found.scored)[0]["key"])
            yield found
        finally:
            running.send_signal(signal.SIGTERM)
            code = running.wait(timeout=90)
        assert code == 0, output.read_text()[-4000:]


@pytest.mark.parametrize("page", WALKED)
def test_every_command_of_the_page_does_what_the_page_says(page: str, site: Site) -> None:
    if page == RECIPE:
        (peers,) = [block for block in blocks(page) if block.language == "yaml"]
        (site.data / "peers.yaml").write_text(site.walk.filled(peers.text))
    for block in walked_blocks(page):
        if not serves(block):
            site.walk.run(block)


def test_a_study_sent_to_the_orthanc_of_the_recipe_gets_results_that_are_stored(site: Site) -> None:
    """After the walks: the peers file of the recipe is in force."""
    paths = sorted(site.studies["synthetic"].iterdir())
    known = {row["key"] for row in site.listed()}

    sent = storescu(paths, site.archive.dicom_port, called="ORTHANC", calling="MR1")

    assert sent.returncode == 0, sent.stderr[-2000:]

    def ended() -> dict[str, Any] | None:
        new = [row for row in site.listed() if row["key"] not in known]
        statuses = {result["status"] for row in new for result in row["results"]}
        return new[0] if statuses == {"stored"} else None

    row = site.wait_for(ended)
    assert row["state"] == "scored"
    (study,) = [
        one
        for one in (site.archive.get(f"/studies/{name}") for name in site.archive.get("/studies"))
        if len(one["Series"]) == 1 + len(row["results"])
    ]
    modalities = {
        name: site.archive.get(f"/series/{name}")["MainDicomTags"]["Modality"] for name in study["Series"]
    }
    assert set(modalities.values()) == {"MR", "SEG", "OT", "SR"}
    # What came from Vigil is not sent to it again.
    jobs = [job for job in site.archive.get("/jobs?expand") if job["Type"] == "DicomModalityStore"]
    sent_on = {series for job in jobs for series in job["Content"]["ParentResources"]}
    assert {modalities.get(series, "of another study") for series in sent_on} == {"MR"}
