import base64
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from dicom_node.channel import Event
from service.access import Identity
from service.messages import Message
from service.store.reports import Report, Told
from service.store.rows import Assessment, Model
from service.study import State
from tests.receivers import HttpReceiver, http_receiver

RUN_AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SECRET = bytes(range(32))


def report(state: State = State.SCORED, *, percentile: float = 0.9, reason: str | None = None) -> Report:
    """Report of one study, without a database."""
    model = Model(name="brain-t1", version="0.1.0", sha256="a1" * 32)
    assessment = Assessment(
        p_value=percentile / 100,
        percentile=percentile,
        study_score=3.5,
        model=model,
        calibration_sha256="c7" * 32,
        reference_group="T1 brain, adults",
        reference_n=120,
        run_at=RUN_AT,
    )
    return Report(
        study_key="abcdefghijklmnopqrst",
        score_id=7,
        revision=2,
        state=state,
        reason=reason,
        detail="",
        assessment=assessment if state is State.SCORED else None,
        model_name=model.name,
        model_version=model.version,
        model_sha256=model.sha256,
        modality="MR",
        priority=10,
        received_at=RUN_AT,
        run_at=RUN_AT,
        ended_at=RUN_AT,
    )


PATIENT = Identity(
    name="Doe^Jane^M^Dr^Jr",
    patient_id="P-17",
    issuer="HOSPITAL",
    accession_number="ACC-1",
    birth_date=date(1971, 2, 3),
    age_years=55.0,
    sex="F",
    study_uid="1.2.840.99.1",
)


def message(
    event: Event = Event.SCORED, told: Report | None = None, identity: Identity | None = None
) -> Message:
    """Message about a report; its id is of the length the outbox gives."""
    return Message(
        message_id="A2B3C4D5E6F7A2B3C4D5",
        sequence=11,
        event=event,
        told=Told(report=told or report(), happened_at=RUN_AT),
        identity=identity,
    )


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "hook.secret"
    path.write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    return path


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as running:
        yield running
