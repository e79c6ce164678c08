"""Studies sent by dcmtk come back from Orthanc as results; the list, the page and the audit trail agree."""

import hashlib
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import httpx
import pydicom
import pytest

from service.traces import traceparent
from tests.end_to_end.conftest import FullRun
from tests.end_to_end.machine import QUIET_S, SCANNER, has_ended
from tests.end_to_end.peers import dciodvfy_errors, echoscu, storescu
from tests.end_to_end.planted import PLANTED, identities_of

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(600)]


def test_every_study_ends_as_its_label_says(full_run: FullRun) -> None:
    ended = {
        full_run.studies[row["key"]].title: (full_run.studies[row["key"]].label, row) for row in full_run.rows
    }

    assert len(ended) == len(full_run.studies)
    for label, row in ended.values():
        if label == "not_assessable":
            assert (row["state"], row["rank"], row["assessment"]) == ("not_assessable", None, None)
            assert row["reason"]
        else:
            assert row["state"] == "scored", row
            assert row["rank"] is not None


def test_what_nobody_could_judge_stands_above_what_was_ranked(full_run: FullRun) -> None:
    bands = [row["band"] for row in full_run.rows]

    assert bands == sorted(bands, key=["unjudged", "ranked", "pending"].index)


def test_synthetic_lesions_stand_above_normals(full_run: FullRun) -> None:
    """AUROC of the calibrated percentile, ties counted half, at least 0.9."""
    percentile = {"normal": [], "synthetic": []}
    for row in full_run.rows:
        label = full_run.studies[row["key"]].label
        if label in percentile:
            percentile[label].append(row["assessment"]["percentile"])
    pairs = [(lesion, normal) for lesion in percentile["synthetic"] for normal in percentile["normal"]]

    auroc = sum(1.0 if lesion < normal else 0.5 if lesion == normal else 0.0 for lesion, normal in pairs)
    assert auroc / len(pairs) >= 0.9


def test_every_score_names_its_model_calibration_group_and_time(full_run: FullRun) -> None:
    for row in full_run.rows:
        assessment = row["assessment"]
        if assessment is not None:
            assert len(assessment["model"]["sha256"]) == 64
            assert len(assessment["calibration_sha256"]) == 64
            assert assessment["reference_group"]
            assert assessment["reference_n"] >= 1
            assert assessment["run_at"]


def test_orthanc_gives_back_exactly_what_was_made(full_run: FullRun) -> None:
    made = {
        hashlib.sha256(dataset_bytes(path.read_bytes())).hexdigest()
        for path in (full_run.machine.data / "results").rglob("*.dcm")
    }
    kept = [
        hashlib.sha256(dataset_bytes(full_run.archive.file(instance))).hexdigest()
        for instance in full_run.archive.instances()
    ]

    assert made
    assert sorted(kept) == sorted(made)


def test_every_result_passes_the_validators(full_run: FullRun) -> None:
    for path in (full_run.machine.data / "results").rglob("*.dcm"):
        assert dciodvfy_errors(path) == [], path.name
        if pydicom.dcmread(path, stop_before_pixels=True).Modality == "SR":
            subprocess.run(["dsrdump", str(path)], check=True, capture_output=True, timeout=60)


def test_every_kind_of_result_is_there_and_unjudged_studies_have_their_report(full_run: FullRun) -> None:
    for row in full_run.rows:
        kinds = {result["kind"] for result in row["results"]}
        if row["state"] == "not_assessable":
            assert kinds == {"sr"}
        else:
            assert {"sr", "sc"} <= kinds <= {"sr", "sc", "seg"}
    lesions = [row for row in full_run.rows if full_run.studies[row["key"]].label == "synthetic"]
    assert any("seg" in {result["kind"] for result in row["results"]} for row in lesions)


def test_the_page_has_the_order_of_the_list(full_run: FullRun) -> None:
    page = httpx.get(full_run.machine.page, timeout=30).text

    positions = [page.index(row["key"]) for row in full_run.rows]

    assert positions == sorted(positions)


def test_sending_a_study_again_changes_nothing(full_run: FullRun) -> None:
    study = next(study for study in full_run.studies.values() if study.label == "normal")
    before = sorted(full_run.archive.instances())

    assert storescu(study.paths, full_run.machine.port, called="VIGIL", calling=SCANNER).returncode == 0
    rows = full_run.machine.wait_until(has_ended(len(full_run.studies)))

    assert [row["key"] for row in rows] == [row["key"] for row in full_run.rows]
    assert sorted(full_run.archive.instances()) == before


def test_a_result_that_comes_back_is_kept_and_not_scored(full_run: FullRun) -> None:
    results = full_run.archive.instances()
    spool = full_run.machine.data / "spool"
    full_run.machine.wait_until_kept()
    before = sum(1 for _ in spool.rglob("*.dcm"))

    full_run.archive.forward(results, aet="VIGIL", port=full_run.machine.port)
    full_run.machine.wait_until_kept()
    time.sleep(QUIET_S + 2)  # long enough for a new revision, had there been one
    rows = full_run.machine.wait_until(has_ended(len(full_run.studies)))

    assert sum(1 for _ in spool.rglob("*.dcm")) == before + len(results)
    assert [row["key"] for row in rows] == [row["key"] for row in full_run.rows]
    assert not any(row["is_receiving"] for row in rows)
    assert sorted(full_run.archive.instances()) == sorted(results)


def test_the_audit_trail_is_intact_and_tells_every_end(full_run: FullRun) -> None:
    done = _vigil(full_run, "audit", "verify", "--json")

    assert done.returncode == 0, done.stderr
    assert '"intact": true' in done.stdout
    key = full_run.rows[-1]["key"]
    detail = httpx.get(f"{full_run.machine.page}/api/v1/studies/{key}", timeout=30).json()
    actions = [event["action"] for event in detail["timeline"]]
    assert actions[:2] == ["study.received", "study.queued"]
    assert "study.scored" in actions
    assert actions.count("result.delivered") == len(full_run.rows[-1]["results"])


def test_a_study_has_one_trace_from_node_to_delivery(full_run: FullRun) -> None:
    key = full_run.rows[-1]["key"]
    expected = {("vigil-node", "receive"), ("vigil-infer", "infer"), ("vigil-deliver", "deliver")}
    deadline = time.monotonic() + 60
    while not expected <= {(span.role, span.name) for span in full_run.collector.spans if span.study == key}:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    spans = [span for span in full_run.collector.spans if span.study == key]
    _, trace_id, first, _ = traceparent(key).split("-")
    assert {span.trace_id for span in spans} == {trace_id}
    assert {span.parent_id for span in spans if span.name != "receive"} == {first}
    assert sum(span.name == "deliver" for span in spans) == len(full_run.rows[-1]["results"])


def test_nothing_that_runs_tells_who_the_patient_is(full_run: FullRun) -> None:
    """No name, id or UID in logs at their most talkative, metrics, traces, pages, API or addresses (I9)."""
    logs = [full_run.machine.data / "vigil.log", *(full_run.machine.data / "logs").glob("*.log")]
    told = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in logs}
    told |= {f"metrics of {role}": httpx.get(url, timeout=30).text for role, url in full_run.scrapes.items()}
    told["traces"] = b"".join(full_run.collector.bodies).decode("latin-1")
    key = full_run.rows[0]["key"]
    for path in ("/", f"/studies/{key}", "/api/v1/worklist", f"/api/v1/studies/{key}"):
        told[path] = httpx.get(f"{full_run.machine.page}{path}", timeout=30, follow_redirects=True).text
    told["file names"] = "\n".join(str(path) for path in full_run.machine.data.rglob("*"))
    assert all(told.values()), [place for place, text in told.items() if not text]

    found = [
        (place, value)
        for study in full_run.studies.values()
        for value in identities_of(study.paths[0])
        for place, text in told.items()
        if value.encode().decode("latin-1") in text or value in text
    ]

    assert found == []


def test_identities_were_there_to_be_told(full_run: FullRun) -> None:
    kept = (full_run.machine.data / "spool").rglob("*.dcm")  # results that came back among them

    assert any(set(PLANTED.values()) <= identities_of(path) for path in kept)


def test_an_unknown_peer_is_refused_and_a_known_one_answered(full_run: FullRun) -> None:
    assert echoscu(full_run.machine.port, called="VIGIL", calling=SCANNER)
    assert not echoscu(full_run.machine.port, called="VIGIL", calling="STRANGER")
    assert not echoscu(full_run.machine.port, called="ELSEWHERE", calling=SCANNER)


def dataset_bytes(part10: bytes) -> bytes:
    """Data set of a Part 10 file without its file meta, which every receiver writes anew."""
    stream = BytesIO(part10)
    pydicom.filereader.read_preamble(stream, force=False)
    meta = pydicom.filereader._read_file_meta_info(stream)
    assert meta.TransferSyntaxUID
    return stream.read()


def _vigil(run: FullRun, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments, "--data", str(run.machine.data)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path.cwd(),
    )
