"""What readers' verdicts say of the scores."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from service import reader_report
from service.access import Permission
from service.api.callers import require
from service.api.dependencies import PartsOf, refuse_unknown_parameters
from service.api.schemas import Body
from service.filters import Time
from service.study import Verdict

router = APIRouter(
    prefix="/api/v1/reports",
    tags=["reports"],
    dependencies=[Depends(require(Permission.VIEW)), Depends(refuse_unknown_parameters)],
)

Since = Annotated[
    Time | None, Query(description="Studies received from then on; unset: of the last 365 days.")
]
Sha256 = Annotated[
    str | None, Query(pattern="^[0-9a-f]{64}$", description="Hash of the only model looked at.")
]


class Share(Body):
    """Some of a number of studies, with its 95 % interval; null where nothing was counted."""

    found: int
    n: int
    share: float | None = Field(ge=0, le=1)
    low: float | None
    high: float | None
    is_small: bool = Field(description=f"n is below {reader_report.SMALL}.")


class Value(Body):
    """Verdicts on some studies, and what share of them were findings."""

    name: str
    verdicts: dict[Verdict, int]
    findings: Share = Field(description="Confirmed findings.")
    conditions: Share = Field(description="Confirmed findings and other conditions.")
    grades: dict[str, Share] = Field(description="Confirmed findings by conspicuity.")


class Sensitivity(Body):
    """Confirmed findings at or below each percentile."""

    name: str
    cuts: list[tuple[float, Share]]


class Median(Body):
    """A median with its interval; null where the data do not reach so far."""

    value: float | None
    low: float | None
    high: float | None


class Reading(Body):
    """How soon some studies were seen."""

    name: str
    studies: int
    seen: int
    hours: Median
    longest_unseen_h: float | None


class ReaderReport(Body):
    """What readers' verdicts say of the scores. The definitions belong to the numbers."""

    disclaimer: str
    since: datetime
    until: datetime
    model: str | None
    studies: int
    seen: int
    judged: int
    disputed: int = Field(description="Readers said different things of them.")
    not_assessable: int
    failed: int
    without_percentile: Value
    overall: Value
    at_or_below: list[Value]
    by_band: list[Value]
    by_model: list[Value]
    by_group: list[Value]
    sensitivity: list[Sensitivity]
    time_to_read: list[Reading]
    definitions: dict[str, str]


@router.get("/feedback")
def report_feedback(parts: PartsOf, since: Since = None, model: Sha256 = None) -> ReaderReport:
    """Predictive value, sensitivity among read studies and time to read, each with its interval."""
    with parts.store.transaction() as session:
        found = reader_report.read_report(session, now=datetime.now(UTC), since=since, model=model)
    values = {name: getattr(found, name) for name in ReaderReport.model_fields if name != "disclaimer"}
    return ReaderReport.model_validate({"disclaimer": parts.disclaimer, **values})
