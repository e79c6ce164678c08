"""Calibrations and scanners: what is in force, what waits for a person, and the decision."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi import Path as InPath
from pydantic import Field
from sqlalchemy.orm import Session

from service import scanners
from service.access import Permission
from service.api.callers import require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.once import ActOf
from service.api.operating import admission
from service.api.problems import no_model
from service.api.schemas import Body
from service.commissioning import rescore_calibrated
from service.store import calibrations
from service.study import CalibrationState, Origin

router = APIRouter(
    prefix="/api/v1",
    tags=["calibrations"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)

LONGEST = 500  # Characters of a reason.
LOOKED_BACK_DAYS = 90
MOST_DAYS = 3660
TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"

Number = Annotated[int, InPath(ge=1, lt=2**63, description="Of the calibration.")]
MAY_DECIDE = [Depends(require(Permission.ADMINISTER))]


class Calibration(Body):
    """One document, and what was decided about it."""

    id: int
    version: int
    sha256: str
    model_sha256: str
    state: CalibrationState
    origin: Origin
    author: str
    reason: str
    proposed_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    before: str | None = Field(
        description="Hash of the document it was made to replace; once accepted, of what was in force."
    )
    scanner: str | None = Field(description="Key of the scanner that it commissions.")


class StratumSize(Body):
    """Reference studies of one group."""

    group: str
    n: int


class CalibrationDetail(Body):
    """One calibration with its groups; scores of people are not told."""

    calibration: Calibration
    least: int = Field(description="Studies a group needs to speak for itself.")
    alike: list[str] = Field(description="In what a study and its group must always agree.")
    groups: list[StratumSize]


class Why(Body):
    """Why somebody decides so."""

    reason: Annotated[str, Field(max_length=LONGEST, pattern=TEXT)] = ""


class InForce(Body):
    """What is in force now."""

    calibration: Calibration | None = Field(description="Null: the model's own calibration.")


class Rescored(Body):
    """Uncalibrated studies that there is a reference for now."""

    queued: int
    left: int = Field(description="Still without a reference.")


class Basis(Body):
    """Whom studies of a scanner are compared with."""

    label: str
    n: int
    is_fallback: bool = Field(description="A wider group than the studies' own.")
    is_small: bool
    is_own: bool = Field(description="The model's own reference, not one of this site.")


class Scanner(Body):
    """One scanner."""

    key: str
    label: str
    ranked: int
    uncalibrated: int
    newest_at: datetime
    bases: list[Basis] = Field(description="Empty: it is not calibrated.")


class Scanners(Body):
    """Calibration by scanner."""

    disclaimer: str
    in_force: Calibration | None = Field(description="Null: the model's own calibration.")
    is_of_another_model: bool
    studies: int = Field(description="Reference studies of what is in force.")
    wanted: int = Field(description="Consecutive studies after which a scanner proposes its calibration.")
    groups: list[Scanner]


@router.get("/calibrations")
def list_calibrations(
    parts: PartsOf, state: Annotated[CalibrationState | None, Query()] = None
) -> list[Calibration]:
    """Every calibration there ever was, newest first."""
    with parts.store.transaction() as session:
        found = calibrations.listed(session, state=state)
    return [Calibration.model_validate(one) for one in found]


@router.get("/calibrations/{calibration_id}")
def read_calibration(parts: PartsOf, calibration_id: Number) -> CalibrationDetail:
    """One calibration, with the sizes of its groups."""
    with parts.store.transaction() as session:
        found, document = calibrations.find(session, calibration_id)
    return CalibrationDetail(
        calibration=Calibration.model_validate(found),
        least=document.least,
        alike=list(document.alike),
        groups=[StratumSize(group=one.group.label, n=len(one.scores)) for one in document.strata],
    )


@router.post("/calibrations/rescore", dependencies=[Depends(require(Permission.OPERATE))])
def rescore_uncalibrated(act: ActOf) -> Rescored:
    """Score again the uncalibrated studies for which there is a reference now, at most 1000 at once."""
    ours = admission(act.parts)
    known = act.parts.calibrations
    if known is None:
        raise no_model()
    return act.once(
        Rescored,
        lambda session: Rescored.model_validate(
            rescore_calibrated(session, known, ours, actor=act.caller.name)
        ),
    )


@router.post("/calibrations/{calibration_id}/accept", dependencies=MAY_DECIDE)
def accept_calibration(act: ActOf, calibration_id: Number, why: Why) -> Calibration:
    """Put a document in force for its model; the one before is retired."""
    return act.once(
        Calibration,
        lambda session: Calibration.model_validate(
            calibrations.accept(session, calibration_id, actor=act.caller.name, reason=why.reason)
        ),
    )


@router.post("/calibrations/{calibration_id}/refuse", dependencies=MAY_DECIDE)
def refuse_calibration(act: ActOf, calibration_id: Number, why: Why) -> Calibration:
    """Say no to a proposal."""
    return act.once(
        Calibration,
        lambda session: Calibration.model_validate(
            calibrations.refuse(session, calibration_id, actor=act.caller.name, reason=why.reason)
        ),
    )


@router.post("/calibrations/{calibration_id}/retire", dependencies=MAY_DECIDE)
def retire_calibration(act: ActOf, calibration_id: Number, why: Why) -> InForce:
    """Take the document in force out of it; the one before is in force again."""

    def do(session: Session) -> InForce:
        now = calibrations.retire(session, calibration_id, actor=act.caller.name, reason=why.reason)
        return InForce(calibration=None if now is None else Calibration.model_validate(now))

    return act.once(InForce, do)


@router.get("/groups")
def read_groups(
    parts: PartsOf, days: Annotated[int, Query(ge=1, le=MOST_DAYS)] = LOOKED_BACK_DAYS
) -> Scanners:
    """Whom the studies of each scanner are compared with; scanners whose studies came in so many days."""
    model, known = parts.model_now, parts.calibrations
    if model is None or known is None:
        raise no_model()
    with parts.store.transaction() as session:
        found = scanners.survey(session, known, model, since=datetime.now(UTC) - timedelta(days=days))
    return Scanners(
        disclaimer=parts.disclaimer,
        in_force=None if found.in_force is None else Calibration.model_validate(found.in_force),
        is_of_another_model=found.is_of_another_model,
        studies=found.studies,
        wanted=parts.settings.commission_studies,
        groups=[
            Scanner(
                key=one.group.key,
                label=one.label,
                ranked=one.ranked,
                uncalibrated=one.uncalibrated,
                newest_at=one.newest_at,
                bases=[Basis.model_validate(basis) for basis in one.bases],
            )
            for one in found.scanners
        ],
    )
