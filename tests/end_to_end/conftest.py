from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dicom_node.identity import load_or_make_secret, study_key
from service.demonstration.studies import DemonstrationStudy, write_studies
from tests.end_to_end.collector import Collector, collector
from tests.end_to_end.machine import SCANNER, Machine, has_ended, machine
from tests.end_to_end.peers import MISSING, Orthanc, free_port, orthanc, storescu
from tests.end_to_end.planted import plant_identities


@dataclass(frozen=True, slots=True)
class FullRun:
    """The demonstration studies, sent by dcmtk, ended, with their results in Orthanc."""

    machine: Machine
    archive: Orthanc
    collector: Collector  # of the traces of it
    scrapes: dict[str, str]  # addresses where Prometheus is answered, by role
    studies: dict[str, DemonstrationStudy]  # by study key
    rows: list[dict[str, Any]]  # of the worklist, in its order


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemonstrationStudy, ...]:
    studies = write_studies(tmp_path_factory.mktemp("demonstration"))
    plant_identities(path for study in studies for path in study.paths)
    return studies


@pytest.fixture(scope="session")
def full_run(
    tmp_path_factory: pytest.TempPathFactory, demonstration: tuple[DemonstrationStudy, ...]
) -> Iterator[FullRun]:
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("run")
    ports = {role: free_port() for role in ("node", "worker", "deliver")}
    with (
        orthanc(folder / "orthanc") as archive,
        collector() as told,
        machine(
            folder / "vigil",
            archive,
            VIGIL_LOG_LEVEL="DEBUG",  # whatever anybody might say, the libraries among them
            VIGIL_TRACES=told.url,
            OTEL_BSP_SCHEDULE_DELAY="500",
            **{f"VIGIL_{role.upper()}_METRICS_PORT": str(port) for role, port in ports.items()},
        ) as running,
    ):
        for study in demonstration:
            sent = storescu(study.paths, running.port, called="VIGIL", calling=SCANNER)
            assert sent.returncode == 0, sent.stderr[-2000:]
        rows = running.wait_until(has_ended(len(demonstration)))
        secret = load_or_make_secret(running.data / "site.key")
        studies = {study_key(secret, study.study_uid): study for study in demonstration}
        scrapes = {role: f"http://127.0.0.1:{port}/metrics" for role, port in ports.items()}
        scrapes["api"] = f"{running.page}/metrics"
        yield FullRun(running, archive, told, scrapes, studies, rows)
