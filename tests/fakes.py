"""Stand-ins for what a test cannot have: a full disk, and archives that answer as told."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import Verification
from sqlalchemy.orm import Session

from dicom_node.contexts import prepare_pynetdicom
from dicom_node.errors import DeliveryError, SpoolFullError
from dicom_node.peers import Confirm
from dicom_node.scu import Receipt
from dicom_node.services.commitment import Mailbox, Reference
from dicom_node.spool import StoreKind, StoreOutcome
from models.documents import SiteCalibration
from models.predictor import AnyPredictor
from models.runner import Feeds, Outputs, Runner
from service.calibrations import InForce


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedCalibration:
    """A calibration that nobody changes, in place of `service.calibrations.Calibrations`."""

    digest: str = "c" * 64
    calibrated: SiteCalibration = field(default_factory=SiteCalibration)

    def in_force(self, session: Session, model_sha256: str) -> InForce:
        """Always the same."""
        del session, model_sha256
        return InForce(calibrated=self.calibrated, config_digest=self.digest)

    def config_digest(self, session: Session, model_sha256: str) -> str:
        """Of it."""
        return self.in_force(session, model_sha256).config_digest


@dataclass
class FakeSink:
    """Sink in memory, with as much room as it is told."""

    room: bool = True
    fills_up: bool = False
    stored: dict[tuple[str, str], bytes] = field(default_factory=dict)
    quarantined: list[tuple[str, bytes]] = field(default_factory=list)

    def has_room(self) -> bool:
        return self.room

    def store(self, study_uid: str, sop_instance_uid: str, parts: Iterable[bytes]) -> StoreOutcome:
        if self.fills_up:
            raise SpoolFullError("The disk of the spool is full.")
        self.stored[study_uid, sop_instance_uid] = b"".join(parts)
        return StoreOutcome(kind=StoreKind.STORED, study_key="a" * 20, file_name="stored", root=Path("spool"))

    def quarantine(self, parts: Iterable[bytes], reason: str) -> Path:
        self.quarantined.append((reason, b"".join(parts)))
        return Path("quarantined")


@dataclass
class FakeDestination:
    """Destination that keeps what it is sent, or answers each file with an error."""

    error: DeliveryError | None = None
    sent: list[Path] = field(default_factory=list)
    confirm: Confirm = Confirm.NONE
    commitment_s: float = 3600.0
    offers: DeliveryError | None = None  # what a commitment request is answered with
    answers: bool | DeliveryError = True  # to the question whether it holds an object
    asked: list[tuple[str, list[Reference]]] = field(default_factory=list)

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def send(self, paths: Sequence[Path]) -> list[Receipt]:
        if self.error is not None:
            return [Receipt(path=path, status=self.error.status, error=self.error) for path in paths]
        self.sent.extend(paths)
        return [Receipt(path=path, status=0x0000, error=None) for path in paths]

    def request_commitment(
        self, transaction_uid: str, references: Sequence[Reference], mailbox: Mailbox
    ) -> None:
        if self.offers is not None:
            raise self.offers
        mailbox.ask(transaction_uid, "pacs")
        self.asked.append((transaction_uid, list(references)))

    def holds(self, path: Path) -> bool:  # noqa: ARG002 - the protocol's
        if isinstance(self.answers, DeliveryError):
            raise self.answers
        return self.answers


@dataclass
class FakeArchive:
    """Storage SCP that answers every C-STORE with one status and keeps the data sets' bytes."""

    port: int
    received: list[tuple[str, bytes]] = field(default_factory=list)  # transfer syntax, data set


@dataclass(frozen=True)
class FixedModel:
    """One model in service, asked directly, without batches across studies."""

    predictor: AnyPredictor

    @contextmanager
    def in_service(self, priority: int) -> Iterator[AnyPredictor]:  # noqa: ARG002 - the protocol's
        yield self.predictor


class Wordless:
    """A network that gives no number in one place of one of its outputs; the rest is as it was.

    Parameters
    ----------
    runner : Runner
        The network.
    output : str
    value : float
        In place of the number.
    at : index
        Of the outputs of a batch; all of them unless told otherwise.
    """

    def __init__(self, runner: Runner, output: str, value: float, at: Any = ...) -> None:
        self.outputs, self.provider = runner.outputs, runner.provider
        self._runner, self._output, self._value, self._at = runner, output, value, at

    def run(self, feeds: Feeds) -> Outputs:
        return self._spoiled(self._runner.run(feeds))

    def run_batched(self, feeds: Feeds) -> Outputs:
        return self._spoiled(self._runner.run_batched(feeds))

    def run_each(self, parts: Iterable[Feeds]) -> Iterator[Outputs]:
        return map(self._spoiled, self._runner.run_each(parts))

    def _spoiled(self, found: Outputs) -> Outputs:
        values = np.array(found[self._output])
        values[self._at] = self._value
        return {**found, self._output: values}


@contextmanager
def archive(
    folder: Path,
    *,
    contexts: Sequence[tuple[str, Sequence[str]]],
    status: int = 0x0000,
    aet: str = "ARCHIVE",
) -> Iterator[FakeArchive]:
    """Run a storage SCP for SOP classes with transfer syntaxes; temporary files stay in `folder`."""
    prepare_pynetdicom()

    def keep(event: Any) -> int:
        whole = event.dataset_path.read_bytes()
        length = int.from_bytes(whole[140:144], "little")  # of the file meta information
        fake.received.append((str(event.context.transfer_syntax), whole[144 + length :]))
        return status

    previous, tempfile.tempdir = tempfile.tempdir, str(folder)
    entity = AE(ae_title=aet)
    entity.require_called_aet = True
    entity.maximum_associations = 100  # one that was only connected to holds its place for 30 s
    server = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        contexts=[build_context(Verification), *(build_context(uid, list(ts)) for uid, ts in contexts)],
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    fake = FakeArchive(port=server.server_address[1])
    try:
        yield fake
    finally:
        server.shutdown()
        for association in server.active_associations:
            association.abort()
        tempfile.tempdir = previous
