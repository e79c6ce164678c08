"""``GET /api/v1/studies/{key}/record``: on what a study's score rests."""

from datetime import datetime

from fastapi import APIRouter, Depends
from pydantic import Field

from service.access import Permission
from service.api.callers import Viewer, require
from service.api.dependencies import Key, PartsOf, refuse_unknown_parameters
from service.api.schemas import Body, Model
from service.store import looks
from service.store.records import record_of
from service.study import State

router = APIRouter(
    prefix="/api/v1/studies",
    tags=["studies"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)


class RecordedInstance(Body):
    """One instance that was read."""

    number: int = Field(description="From 1, within the revision.")
    sha256: str = Field(description="Of its data set; empty where it was damaged on arrival.")
    bytes: int


class ScoreRecord(Body):
    """Everything that is needed to make a score again, free of identity."""

    study_key: str
    score_id: int
    revision: int
    content_hash: str = Field(description="Over the instances of the revision.")
    instances: list[RecordedInstance]
    state: State
    reason: str | None = Field(description="Code of why there is no percentile.")
    model: Model
    calibration_sha256: str
    reference_group: str
    reference_n: int | None
    preprocessing: str | None = Field(description="Version of what was done to the voxels.")
    provider: str | None = Field(description="What ran the network.")
    software: dict[str, str] = Field(description="Versions of what shapes a score.")
    config_digest: str
    scored_series: str = Field(description="Pseudonym of the series.")
    study_score: float | None
    p_value: float | None
    tail: float | None
    peak: float | None
    heads: dict[str, float]
    looks: dict[str, float]
    run_at: datetime
    ended_at: datetime | None
    results: dict[str, str] = Field(description="SHA-256 of each result object, by kind.")


@router.get("/{key}/record")
def read_record(parts: PartsOf, caller: Viewer, key: Key) -> ScoreRecord:
    """On what the score that counts rests: hashes of instances, model and calibration, versions."""
    with parts.store.transaction() as session:
        found = ScoreRecord.model_validate(record_of(session, key))
        looks.viewed(session, key, actor=caller.name)
    return found
