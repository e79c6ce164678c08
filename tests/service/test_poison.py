"""A study that kills the process which decodes it, in a real worker process with others in hand."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select, text

from dicom_node.spool import Spool
from models.artefact import load_artefact
from service import engine
from service.engine import Pool
from service.store import Store, jobs, studies
from service.store.tables import ScoreRow, StudyRow
from service.study import State
from service.triage import ATTEMPTS_USED_UP
from tests.phantoms import Phantom, write
from tests.picture_models import write_artefact
from tests.service.test_studies import NOON, arrival_of

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ATTEMPTS = 2
STALLED_S = 60

# The worker as `vigil worker --pool infer` runs it, with a decoder that one study ends the process in.
PROGRAM = """
import os, sys, time
from pathlib import Path
from dicom_node import reader
from service import wiring
from service.meters import Meters
from service.engine import Pool
from service.reaper import Reaper
from service.settings import Settings
from service.worker import run_worker

url, data, model = sys.argv[1:]
in_hand, died = Path(data) / "in-hand", Path(data) / "died"
in_hand.mkdir(exist_ok=True)

decode = reader.decode
def decode_or_die(dataset):
    if dataset.PatientID == "PH-poison":
        while len(list(in_hand.iterdir())) < 3:
            time.sleep(0.05)
        os.abort()
    (in_hand / dataset.PatientID).touch()
    while not died.exists():  # in hand at the first death
        time.sleep(0.05)
    return decode(dataset)
reader.decode = decode_or_die

class Eager(Reaper):
    # Looks often, and takes nobody for dead who is slow.
    def run(self, stop, on_refusal):
        while not stop.wait(0.3):
            self.step()

settings = Settings(data=Path(data), model=Path(model), infer_attempts=%d, infer_jobs=4)
store = wiring.open_store(settings.model_copy(update={"database_url": url}))
meters = Meters()
triage = wiring.open_triage(settings, store, wiring.open_serving(settings, meters), meters)
run_worker(
    {Pool.INFER: triage},
    slots=settings.infer_jobs,
    database_url=url,
    reaper=Eager(store=store, stalled_s=%d),
)
"""


def test_a_study_that_kills_its_process_fails_alone(store: Store, tmp_path: Path) -> None:
    model = write_artefact(tmp_path / "model")
    names = ["poison", "one", "two", "three"]
    keys = {name: _spool(store, tmp_path, name) for name in names}
    for name, key in keys.items():
        _queue(store, key, load_artefact(model).sha256, priority=30 if name == "poison" else 10)

    deaths = _work_until_all_have_ended(store, tmp_path, model)

    with store.transaction() as session:
        found = {study.key: study for study in session.scalars(select(StudyRow))}
        attempts = {
            name: session.scalars(
                select(ScoreRow.attempts).where(
                    ScoreRow.revision_id.in_([revision.id for revision in found[key].revisions])
                )
            ).one()
            for name, key in keys.items()
        }
        assert (found[keys["poison"]].state, found[keys["poison"]].reason) == (State.FAILED, ATTEMPTS_USED_UP)
        assert {found[keys[name]].state for name in names[1:]} == {State.SCORED}
    assert deaths == ATTEMPTS
    # They were in hand at the first death, and at no other.
    assert {attempts[name] for name in names[1:]} == {2}


def _spool(store: Store, folder: Path, name: str) -> str:
    spool = Spool(folder / "data" / "spool", b"s" * 32, free_mark_bytes=0)
    for dataset in Phantom(name=name).datasets():
        (path,) = write(folder / "sent", [dataset])
        stored = spool.store(dataset.StudyInstanceUID, dataset.SOPInstanceUID, [path.read_bytes()])
    key = stored.study_key
    with store.transaction() as session:
        studies.register(session, key, [arrival_of(one) for one in spool.instances(key)])
    return key


def _queue(store: Store, key: str, model_hash: str, *, priority: int) -> None:
    with store.transaction() as session:
        revision = studies.complete(session, key, completed_by="quiet_period", now=NOON)
        assert revision is not None
        score_id = jobs.queue(session, revision.id, model_hash=model_hash, config_digest="c", run_at=NOON)
        assert score_id is not None
        engine.enqueue(session, Pool.INFER, score_id, priority=priority)


def _work_until_all_have_ended(store: Store, folder: Path, model: Path) -> int:
    """Start the worker again whenever it dies, as the supervisor does; return how often it died."""
    command = [
        sys.executable,
        "-c",
        PROGRAM % (ATTEMPTS, STALLED_S),
        store.url,
        str(folder / "data"),
        str(model),
    ]
    deaths, deadline = 0, time.monotonic() + 200
    environment = os.environ | {"PYTHONFAULTHANDLER": ""}
    worker = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        while _has_open_scores(store):
            assert time.monotonic() < deadline
            if worker.poll() is not None:
                assert worker.returncode == -signal.SIGABRT
                deaths += 1
                (folder / "data" / "died").touch()
                _age_heartbeats(store)
                worker = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
            time.sleep(0.1)
    finally:
        worker.kill()
        worker.wait()
    return deaths


def _age_heartbeats(store: Store) -> None:
    """Let the time pass after which a worker that says nothing counts as dead."""
    with store.transaction() as session:
        session.execute(
            text("UPDATE procrastinate_workers SET last_heartbeat = now() - make_interval(secs => :s)"),
            {"s": STALLED_S + 1},
        )


def _has_open_scores(store: Store) -> bool:
    with store.transaction() as session:
        return bool(jobs.waiting_scores(session))
