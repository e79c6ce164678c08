"""A site that holds studies, and the DICOMweb services over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO

from pydicom.dataset import FileDataset
from sqlalchemy import select

from dicom_node.identity import load_or_make_secret
from dicom_node.spool import Spool
from dicom_node.web.listing import read_listing
from service.intake import Intake
from service.settings import Settings
from service.store import Store, dicom_index
from service.store.objects import ResultFolder
from service.store.tables import ResultRow, RevisionRow, ScoreRow, StudyRow
from tests.fakes import FixedCalibration


@dataclass(frozen=True, slots=True)
class BuiltObject:
    """A result as its builders hand it over."""

    kind: str
    dataset: FileDataset


@dataclass(frozen=True, slots=True)
class Archive:
    """Spool, intake and results of one site."""

    store: Store
    settings: Settings

    @property
    def spool(self) -> Spool:
        secret = load_or_make_secret(self.settings.key_path)
        return Spool(self.settings.spool_folder, secret, free_mark_bytes=0)

    def receive(self, datasets: Sequence[FileDataset]) -> str:
        """Take instances of one study in, until a job waits; return its key."""
        for dataset in datasets:
            file = BytesIO()
            dataset.save_as(file, enforce_file_format=True)
            self.spool.store(dataset.StudyInstanceUID, dataset.SOPInstanceUID, [file.getvalue()])
        intake = Intake(
            store=self.store,
            spool=self.spool,
            model_hash="m",
            config_digest=FixedCalibration(digest="c").config_digest,
            quiet_s=lambda _: 1.0,
        )
        intake.step(datetime.now(UTC))
        intake.step(datetime.now(UTC) + timedelta(hours=1))
        return self.spool.key_of(datasets[0].StudyInstanceUID)

    def keep(self, key: str, kind: str, dataset: FileDataset, *, is_listed: bool = True) -> None:
        """Keep a result of a study."""
        (stored,) = ResultFolder(self.settings.results_folder).keep(key, [BuiltObject(kind, dataset)])
        with self.store.transaction() as session:
            study_id, score_id = session.execute(
                select(StudyRow.id, ScoreRow.id)
                .join(RevisionRow, RevisionRow.study_id == StudyRow.id)
                .join(ScoreRow, ScoreRow.revision_id == RevisionRow.id)
                .where(StudyRow.key == key)
            ).one()
            row = ResultRow(
                score_id=score_id,
                kind=kind,
                sop_class_uid=stored.sop_class_uid,
                sop_instance_uid=stored.sop_instance_uid,
                path=stored.path,
                sha256=stored.sha256,
                bytes=stored.bytes,
            )
            session.add(row)
            session.flush()
            if is_listed:
                path = self.settings.results_folder / stored.path
                dicom_index.note_result(session, study_id, row.id, read_listing(BytesIO(path.read_bytes())))
