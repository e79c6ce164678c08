"""Rows as the service leaves them, for tests of what is shown."""

import hashlib
from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MultiFrameTrueColorSecondaryCaptureImageStorage, generate_uid
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.drift import GroupWatch
from models.groups import Group
from models.scores import ModelIdentity
from service.store import audit
from service.store.tables import (
    DeliveryRow,
    GroupWatchRow,
    InstanceRow,
    ResultRow,
    RevisionRow,
    ScoreRow,
    StudyRow,
)
from service.study import ENDED, DeliveryStatus, Priority, State

MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MODEL_SHA256 = "a1" * 32
NEVER_OVERDUE_S = 315_360_000.0  # longest that may be set: the morning above lies in the past
CALIBRATION_SHA256 = "c7" * 32
GROUP = "T1 brain, adults"

MODEL = ModelIdentity(
    name="brain-t1-cevae",
    version="0.1.0",
    sha256=MODEL_SHA256,
    calibration_sha256=CALIBRATION_SHA256,
    calibrated_on=MORNING.date(),
    group=GROUP,
    n=6,
    disclaimer="Demonstration model, not for clinical use.",
)

USUAL_REASONS = {State.NOT_ASSESSABLE: "localiser", State.FAILED: "attempts_used_up"}

REGIONS = [
    {"volume_mm3": 4210.0, "peak": 0.93, "mean": 0.61, "centre_mm": [21.4, -12.0, 33.9], "slice_index": 2},
    {"volume_mm3": 310.0, "peak": 0.55, "mean": 0.41, "centre_mm": [-8.0, 4.0, 12.0], "slice_index": 5},
]


def study_key(name: str) -> str:
    """Return a key of the right shape."""
    return b32encode(hashlib.sha256(name.encode()).digest())[:20].decode().lower()


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One study as a test wants it. Results: kind to the status at each destination."""

    name: str
    state: State = State.SCORED
    p_value: float = 0.5
    study_score: float = 1.0
    reason: str | None = None
    detail: str = ""
    description: str = "MR brain"
    received_at: datetime = MORNING
    is_pending: bool = False
    revisions: int = 1
    pictures: int = 0
    results: Mapping[str, Mapping[str, DeliveryStatus]] = field(default_factory=dict)
    regions: Sequence[Mapping[str, Any]] = ()
    priority: Priority = Priority.ROUTINE
    seen_at: datetime | None = None
    parked_at: datetime | None = None
    sender: str = "SCANNER"
    modality: str = "MR"
    tail: float | None = None
    group_key: str | None = None
    model_sha256: str = MODEL_SHA256

    @property
    def has_raw_score(self) -> bool:
        """Whether the model scored it, and nothing says how usual that is."""
        return self.state is State.NOT_ASSESSABLE and self.reason in {"uncalibrated", "drifted"}

    @property
    def key(self) -> str:
        return study_key(self.name)


def plant(session: Session, *seeds: Seed) -> None:
    """Write the rows of some studies."""
    for seed in seeds:
        _plant(session, seed)


def plant_drift(session: Session, seed: Seed) -> None:
    """Have a scored study scored again on the same revision: its scanner has drifted meanwhile."""
    study = session.scalars(select(StudyRow).where(StudyRow.key == seed.key)).one()
    revision = session.scalars(select(RevisionRow).where(RevisionRow.study_id == study.id)).one()
    study.ended_at = None
    for state in (State.COMPLETE, State.QUEUED):  # the way of whoever is scored again
        study.state = state
        session.flush()
    again = replace(seed, state=State.NOT_ASSESSABLE, reason="drifted", results={})
    score = _score(again, revision.id, again.state, again.reason)
    score.config_digest = "e" * 64
    session.add(score)
    session.flush()
    study.state, study.reason, study.ended_at = again.state, again.reason, datetime.now(UTC)
    session.flush()


def plant_watch(session: Session, group: Group, *, alarmed_at: datetime | None = None) -> int:
    """Write a watch over a scanner under the model's own calibration; return its number."""
    state = GroupWatch.begin(group.label, CALIBRATION_SHA256, {"noise": [float(n) for n in range(200)]})
    if alarmed_at is not None:
        for _ in range(20):
            state = state.look({"noise": 999.0})
    row = GroupWatchRow(
        model_sha256=MODEL_SHA256,
        calibration_sha256=CALIBRATION_SHA256,
        group_key=group.scanner.key,
        state=state.model_dump(mode="json"),
        seen=20,
        alarmed_at=alarmed_at,
        alarms=list(state.alarms),
        changed_number=None if alarmed_at is None else 1,
        turns=0 if alarmed_at is None else 1,
    )
    session.add(row)
    session.flush()
    return row.id


def _plant(session: Session, seed: Seed) -> None:
    reason = seed.reason or USUAL_REASONS.get(seed.state)
    ended_at = seed.received_at + timedelta(minutes=2) if seed.state in ENDED else None
    study = StudyRow(
        key=seed.key,
        state=seed.state,
        reason=reason,
        detail=seed.detail,
        modality=seed.modality,
        description=seed.description,
        sender=seed.sender,
        priority=seed.priority,
        parked_at=seed.parked_at,
        received_at=seed.received_at,
        last_instance_at=seed.received_at + timedelta(seconds=20),
        is_pending=seed.is_pending,
        completed_at=None if seed.state is State.RECEIVED else seed.received_at + timedelta(minutes=1),
        ended_at=ended_at,
    )
    session.add(study)
    session.flush()
    for index in range(3):
        session.add(
            InstanceRow(
                study_id=study.id,
                file_name=f"{index:032x}.dcm",
                sha256="0" * 64,
                bytes=1000,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
                is_own=False,
                sender="SCANNER",
                received_at=seed.received_at,
            )
        )
    audit.append(session, "study.received", actor="node", study_key=seed.key, sender="SCANNER")
    if seed.state is not State.RECEIVED:
        _plant_revisions(session, seed, study.id, reason)
    if seed.seen_at is not None:  # last: whatever changes takes the mark away
        study.seen_at, study.seen_by = seed.seen_at, "reader"
        session.flush()


def _plant_revisions(session: Session, seed: Seed, study_id: int, reason: str | None) -> None:
    for number in range(1, seed.revisions + 1):
        is_newest = number == seed.revisions
        revision = RevisionRow(
            study_id=study_id, number=number, content_hash=f"{number:064x}", completed_by="quiet_period"
        )
        session.add(revision)
        session.flush()
        audit.append(session, "study.queued", actor="node", study_key=seed.key, revision=number)
        if not is_newest:
            session.add(_score(seed, revision.id, State.SCORED, None))
        elif seed.state is not State.COMPLETE:
            session.add(_score(seed, revision.id, seed.state, reason))
        if is_newest and seed.state in ENDED:
            audit.append(
                session, f"study.{seed.state}", actor="inference", study_key=seed.key, revision=number
            )
    session.flush()


def _score(seed: Seed, revision_id: int, state: State, reason: str | None) -> ScoreRow:
    is_scored = state is State.SCORED
    has_raw = state is State.NOT_ASSESSABLE and seed.has_raw_score
    score = ScoreRow(
        revision_id=revision_id,
        model_hash=seed.model_sha256,
        config_digest="d" * 64,
        run_at=seed.received_at + timedelta(minutes=1),
        state=state,
        reason=reason,
        detail=seed.detail,
        p_value=seed.p_value if is_scored else None,
        study_score=seed.study_score if is_scored or has_raw else None,
        tail=seed.tail if is_scored else None,
        group_key=seed.group_key,
        model_name=MODEL.name if is_scored else "",
        model_version=MODEL.version if is_scored else "",
        reference_group=GROUP if is_scored else "",
        reference_n=MODEL.n if is_scored else None,
        calibration_hash=CALIBRATION_SHA256 if is_scored else "",
        heads={"combi": 0.71, "residual": 0.0412} if is_scored else {},
        regions=list(seed.regions) if is_scored else [],
        pictures=seed.pictures if is_scored else 0,
        series=_both_series(seed, reason) if state in {State.SCORED, State.NOT_ASSESSABLE} else [],
        ended_at=seed.received_at + timedelta(minutes=2) if state in ENDED else None,
    )
    for kind, destinations in seed.results.items():
        result = ResultRow(
            kind=kind,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
            sop_instance_uid=generate_uid(),
            path=f"{seed.key}/{kind}.dcm",
            sha256="e" * 64,
            bytes=52_000,
        )
        result.deliveries = [
            _delivery(name, status, seed.received_at + timedelta(minutes=3))
            for name, status in destinations.items()
        ]
        score.results.append(result)
    return score


def _delivery(destination: str, status: DeliveryStatus, at: datetime) -> DeliveryRow:
    is_refused = status is DeliveryStatus.UNDELIVERED
    return DeliveryRow(
        destination=destination,
        status=status,
        error="The destination does not answer." if is_refused else "",
        ended_at=None if status is DeliveryStatus.WAITING else at,
    )


def _both_series(seed: Seed, reason: str | None) -> list[dict[str, Any]]:
    return [
        _series("T1 MPRAGE", 40, is_scored=reason is None, reason=reason, detail=seed.detail),
        _series("Survey", 3, is_scored=False, reason="localiser", detail="Image Type says LOCALIZER"),
    ]


def _series(
    description: str, instances: int, *, is_scored: bool, reason: str | None, detail: str
) -> dict[str, Any]:
    return {
        "key": study_key(description),
        "modality": "MR",
        "description": description,
        "instances": instances,
        "is_scored": is_scored,
        "reason": reason,
        "detail": detail,
    }


def write_capture(path: Path, frames: NDArray[np.uint8]) -> None:
    """Write a multi-frame colour secondary capture, uncompressed; frames: (frame, row, column, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    capture: Dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    capture.SOPClassUID = meta.MediaStorageSOPClassUID
    capture.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    capture.NumberOfFrames, capture.Rows, capture.Columns = frames.shape[:3]
    capture.SamplesPerPixel = 3
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    capture.PixelData = frames.tobytes()
    capture.save_as(path, enforce_file_format=True)
