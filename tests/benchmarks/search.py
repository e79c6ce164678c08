"""How long QIDO-RS takes over many studies: ``python -m tests.benchmarks.search [--studies N] [--rounds N]``.

Each study has two series and twenty instances. The time is that of the whole request, the audit row among it.
"""

import argparse
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from service.api import create_app
from service.settings import Settings
from service.store import Store
from service.store.embedded import EmbeddedDatabase
from service.store.migrations import upgrade
from tests.web_client import TestClient

FILL = """
INSERT INTO vigil.study (key, state, received_at, last_instance_at, is_pending, modality, description)
SELECT translate(lpad(to_hex(n), 20, 'z'), '0189', 'ghij'), 'received', now(), now(), false, 'MR',
    'Head ' || n % 50
FROM generate_series(1, :studies) AS n;
INSERT INTO vigil.identity
(study_id, study_uid, name, patient_id, issuer, accession_number, sex, birth_date)
SELECT id, '1.2.' || id, 'Name' || id % 5000 || '^Given', 'P' || id, '', 'A' || id, 'F',
    DATE '1950-01-01' + (id % 20000)::int
FROM vigil.study;
INSERT INTO vigil.listed_study (study_id, date, time, number, referring_physician)
SELECT id, to_char(DATE '2025-01-01' + (id % 500)::int, 'YYYYMMDD'), '101500', '1', '' FROM vigil.study;
INSERT INTO vigil.listed_series
(study_id, series_uid, modality, number, description, body_part, began_date, began_time)
SELECT id, '1.2.' || id || '.' || n, CASE WHEN id % 10 = 0 THEN 'CT' ELSE 'MR' END, n, 'T1', 'HEAD', '', ''
FROM vigil.study, generate_series(1, 2) AS n;
INSERT INTO vigil.instance
(study_id, file_name, sha256, bytes, sop_class_uid, is_own, sender, received_at)
SELECT id, n || '.dcm', '', 1, '1.2.840.10008.5.1.4.1.1.4', false, '', now()
FROM vigil.study, generate_series(1, 20) AS n;
INSERT INTO vigil.listed_instance
(study_id, series_id, received_id, sop_instance_uid, sop_class_uid, transfer_syntax_uid, number)
SELECT s.study_id, s.id, i.id, s.series_uid || '.' || i.id, i.sop_class_uid, '1.2.840.10008.1.2.1', 1
FROM vigil.listed_series s
JOIN vigil.instance i ON i.study_id = s.study_id AND i.id % 2 = s.number % 2;
"""
QUESTIONS = (
    "studies?limit=101",
    "studies?limit=101&offset=50000",
    "studies?limit=101&PatientName=*name12*",
    "studies?limit=101&StudyDate=20250301-20250310",
    "studies?limit=101&ModalitiesInStudy=CT",
    "studies?PatientID=P777",
    "studies/1.2.777/series",
    "studies/1.2.777/instances",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = EmbeddedDatabase(Path(folder))
        database.prepare()
        server = subprocess.Popen(database.command(), stderr=subprocess.DEVNULL)
        try:
            database.wait_until_ready()
            store = Store.open(database.url)
            upgrade(store)
            measure(store, Path(folder), options.studies, options.rounds)
            store.close()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)


def measure(store: Store, folder: Path, studies: int, rounds: int) -> None:
    with store.transaction() as session:
        for statement in FILL.split(";\n"):
            if statement.strip():
                session.execute(text(statement), {"studies": studies} if ":studies" in statement else {})
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    app = create_app(store=store, settings=Settings(data=folder, access="open"))
    client = TestClient(app, base_url="http://127.0.0.1:8080")
    for question in QUESTIONS:
        taken = []
        for _ in range(rounds):
            began = time.perf_counter()
            answer = client.get(f"/dicom-web/{question}")
            taken.append(1000 * (time.perf_counter() - began))
        rows = len(answer.json()) if answer.content else 0
        print(
            f"{statistics.median(taken):7.0f} ms median {max(taken):7.0f} ms worst {rows:5} rows  {question}"
        )


if __name__ == "__main__":
    main()
