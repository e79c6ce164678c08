import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select

from dicom_node.services.commitment import Mailbox
from dicom_node.spool import Spool
from models.catalogue import active_artefact
from models.predictor import Predictor
from service.deliver import Delivery
from service.errors import SettingsError
from service.intake import Intake
from service.provision import Provision
from service.shares import Shares
from service.store import Store, deliveries
from service.store.objects import ResultFolder
from service.store.tables import DeliveryRow, ScoreRow
from service.study import DeliveryStatus
from service.traces import (
    NO_TRACES,
    Traces,
    open_traces,
    require_packages,
    trace_ids,
    traceparent,
    tracing_to,
)
from service.triage import Triage
from tests.fakes import FakeDestination, FixedCalibration, FixedModel
from tests.phantoms import Phantom, write
from tests.seeds import Seed, plant

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
KEY = "a" * 20


class Told:
    """Traces of some roles, kept in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()

    def by(self, role: str) -> Traces:
        return tracing_to(SimpleSpanProcessor(self._exporter), role)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()


def test_the_context_of_a_study_is_one_of_the_standard_and_its_own() -> None:
    version, trace_id, span_id, flags = traceparent(KEY).split("-")

    assert (version, flags) == ("00", "01")  # sampled
    assert (len(trace_id), len(span_id)) == (32, 16)
    assert (int(trace_id, 16), int(span_id, 16)) == trace_ids(KEY)
    assert traceparent("b" * 20) != traceparent(KEY)


def test_the_first_span_has_the_ids_of_the_study_and_no_other_has() -> None:
    told = Told()
    traces = told.by("node")
    traces.tell("receive", KEY, begun=NOON, ended=LATER, is_first=True)
    traces.tell("receive", KEY, begun=NOON, ended=LATER, parts={"read": 2.0, "score": 1.0})

    first, read, score, again = told.spans
    assert (first.context.trace_id, first.context.span_id) == trace_ids(KEY)
    assert first.parent is None
    assert {span.context.trace_id for span in told.spans} == {first.context.trace_id}
    assert again.parent is not None
    assert again.parent.span_id == first.context.span_id
    assert {span.parent.span_id for span in (read, score) if span.parent} == {again.context.span_id}
    assert (score.start_time, read.end_time) == (read.end_time, int((NOON.timestamp() + 2) * 1e9))
    assert len({span.context.span_id for span in told.spans}) == 4


def test_what_went_wrong_is_told_by_its_type_alone() -> None:
    told = Told()
    told.by("deliver").tell("deliver", KEY, begun=NOON, ended=NOON, error="DestinationBusyError")

    (span,) = told.spans
    assert (span.status.is_ok, span.status.description) == (False, "DestinationBusyError")
    assert span.events == ()


def test_a_collector_without_the_packages_for_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_packages("http://127.0.0.1:4318/v1/traces")
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)

    with pytest.raises(SettingsError, match=r"vigil-triage\[traces\]"):
        require_packages("http://127.0.0.1:4318/v1/traces")
    require_packages(None)


def test_without_a_collector_nothing_is_told() -> None:
    assert open_traces(None, "node") is NO_TRACES
    NO_TRACES.tell("receive", KEY, begun=NOON, ended=NOON)


@pytest.mark.postgres
def test_a_study_has_one_trace_through_node_worker_and_delivery(store: Store, tmp_path: Path) -> None:
    told = Told()
    predictor = Predictor.load(active_artefact())
    spool = Spool(tmp_path / "spool", b"s" * 32, free_mark_bytes=0)
    datasets = Phantom().datasets()
    for dataset, path in zip(datasets, write(tmp_path / "sent", datasets), strict=True):
        stored = spool.store(dataset.StudyInstanceUID, dataset.SOPInstanceUID, [path.read_bytes()])
    objects = ResultFolder(tmp_path / "results")

    Intake(
        store=store,
        spool=spool,
        model_hash=predictor.identity.sha256,
        config_digest=FixedCalibration().config_digest,
        quiet_s=lambda _: 1.0,
        traces=told.by("node"),
    ).step(LATER)
    with store.transaction() as session:
        score_id = session.scalars(select(ScoreRow.id)).one()
    Triage(
        store=store,
        provision=Provision(spool_folder=spool.root),
        objects=objects,
        models=FixedModel(predictor),
        in_force=FixedCalibration().in_force,
        destinations=lambda _: ("pacs",),
        max_voxels=1 << 24,
        attempts=3,
        places=Shares(1),
        memory=Shares(1 << 30),
        scratch_folder=tmp_path / "scratch",
        traces=told.by("infer"),
    ).run(score_id)
    with store.transaction() as session:
        ids = session.scalars(select(DeliveryRow.id)).all()
    delivery = Delivery(
        store=store,
        objects=objects,
        destinations={"pacs": FakeDestination()},
        attempts=3,
        mailbox=Mailbox(tmp_path / "commitment"),
        traces=told.by("deliver"),
    )
    for delivery_id in ids:
        delivery.run(delivery_id)

    above = [
        (span.resource.attributes["service.name"], span.name)
        for span in told.spans
        if "vigil.study" in (span.attributes or {})
    ]
    assert above == [
        ("vigil-node", "receive"),
        ("vigil-infer", "wait"),
        ("vigil-infer", "infer"),
        *[("vigil-deliver", "deliver")] * len(ids),
    ]
    assert ids
    assert {"fetch", "read", "score", "build", "keep"} <= {span.name for span in told.spans}
    assert {span.context.trace_id for span in told.spans} == {trace_ids(stored.study_key)[0]}
    written = "".join(span.to_json() for span in told.spans)
    for value in (
        str(datasets[0].PatientName),
        datasets[0].PatientID,
        datasets[0].StudyInstanceUID,
        datasets[0].SOPInstanceUID,
    ):
        assert value
        assert value not in written


@pytest.mark.postgres
def test_a_delivery_that_fails_is_in_the_trace(store: Store, tmp_path: Path) -> None:
    told = Told()
    with store.transaction() as session:
        plant(session, Seed(name="a", results={"sr": {"pacs": DeliveryStatus.WAITING}}))
        job = deliveries.find(session, session.scalars(select(DeliveryRow.id)).one())
    assert job is not None
    delivery = Delivery(
        store=store,
        objects=ResultFolder(tmp_path),
        destinations={},
        attempts=3,
        mailbox=Mailbox(tmp_path / "commitment"),
        traces=told.by("deliver"),
    )
    delivery.failed(job.delivery_id, ConnectionError("Doe^Jane refused"))

    (span,) = told.spans
    assert span.status.description == "ConnectionError"
    assert "Doe" not in span.to_json()
