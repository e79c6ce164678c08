"""The node as a provider of storage commitment, asked by an archive nobody here wrote."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage, MRImageStorage

from dicom_node.scu import send_files
from tests.end_to_end.node import AET, running_node
from tests.end_to_end.peers import MISSING, Orthanc, orthanc
from tests.phantoms import mr_image, write

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119
REPORTED_S = 90.0


def report_on(archive: Orthanc, modality: str, asked: Sequence[tuple[str, FileDataset]]) -> dict[str, Any]:
    """Have the archive ask for instances, each under a class, and wait for what it was told."""
    references = [{"SOPClassUID": uid, "SOPInstanceUID": str(image.SOPInstanceUID)} for uid, image in asked]
    answer = httpx.post(f"{modality}/storage-commitment", json={"DicomInstances": references}, timeout=30)
    answer.raise_for_status()
    deadline = time.monotonic() + REPORTED_S
    while True:
        report: dict[str, Any] = archive.get(answer.json()["Path"])
        if report["Status"] != "Pending":
            return report
        assert time.monotonic() < deadline, "no report"
        time.sleep(0.2)


def test_an_archive_is_told_what_is_held_what_is_missing_and_what_is_another_class(tmp_path: Path) -> None:
    held, missing = (mr_image("commitment", number, np.zeros((4, 4), np.uint16)) for number in range(2))
    (path,) = write(tmp_path / "sent", [held])
    with orthanc(tmp_path / "orthanc") as archive:
        peers = tmp_path / "peers.yaml"
        peers.write_text(
            "peers:\n  - {name: archive, aet: ORTHANC, host: 127.0.0.1, roles: [sender],"
            f" port: {archive.dicom_port}}}\n"
        )
        with running_node(tmp_path / "data", VIGIL_OFFER_COMMITMENT=1, VIGIL_PEERS=peers) as node:
            (receipt,) = send_files(
                [path], host="127.0.0.1", port=node.port, calling_aet="ORTHANC", called_aet=AET
            )
            assert receipt.is_stored
            modality = archive.knows(aet=AET, port=node.port)
            whole = report_on(archive, modality, [(MRImageStorage, held)])
            partly = report_on(archive, modality, [(MRImageStorage, held), (MRImageStorage, missing)])
            other = report_on(archive, modality, [(CTImageStorage, held)])

    assert (whole["Status"], whole["Failures"]) == ("Success", [])
    assert [one["SOPInstanceUID"] for one in whole["Success"]] == [held.SOPInstanceUID]
    assert partly["Status"] == "Failure"
    assert [one["SOPInstanceUID"] for one in partly["Success"]] == [held.SOPInstanceUID]
    assert [one["SOPInstanceUID"] for one in partly["Failures"]] == [missing.SOPInstanceUID]
    assert [one["FailureReason"] for one in partly["Failures"]] == [NO_SUCH_INSTANCE]
    assert [one["FailureReason"] for one in other["Failures"]] == [CLASS_CONFLICT]
