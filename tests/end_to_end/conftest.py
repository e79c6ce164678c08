from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dicom_node.identity import load_or_make_secret, study_key
from service.demonstration.studies import DemonstrationStudy, write_studies
from tests.end_to_end.machine import SCANNER, Machine, has_ended, machine
from tests.end_to_end.peers import MISSING, Orthanc, orthanc, storescu


@dataclass(frozen=True, slots=True)
class FullRun:
    """The demonstration studies, sent by dcmtk, ended, with their results in Orthanc."""

    machine: Machine
    archive: Orthanc
    studies: dict[str, DemonstrationStudy]  # by study key
    rows: list[dict[str, Any]]  # of the worklist, in its order


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemonstrationStudy, ...]:
    return write_studies(tmp_path_factory.mktemp("demonstration"))


@pytest.fixture(scope="session")
def full_run(
    tmp_path_factory: pytest.TempPathFactory, demonstration: tuple[DemonstrationStudy, ...]
) -> Iterator[FullRun]:
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("run")
    with orthanc(folder / "orthanc") as archive, machine(folder / "vigil", archive) as running:
        for study in demonstration:
            sent = storescu(study.paths, running.port, called="VIGIL", calling=SCANNER)
            assert sent.returncode == 0, sent.stderr[-2000:]
        rows = running.wait_until(has_ended(len(demonstration)))
        secret = load_or_make_secret(running.data / "site.key")
        studies = {study_key(secret, study.study_uid): study for study in demonstration}
        yield FullRun(running, archive, studies, rows)
