"""The model that only watches, beside the one in service: for who decides about models."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from service import comparing
from service.access import Permission
from service.api.callers import require
from service.api.dependencies import Parts, PartsOf, refuse_unknown_parameters
from service.api.reports import Share
from service.api.schemas import Body, Model
from service.comparing import Comparison
from service.errors import SettingsError
from service.shadowed import shadow_of
from service.store import shadows
from service.study import State

router = APIRouter(
    prefix="/api/v1",
    tags=["reports"],
    dependencies=[Depends(require(Permission.OPERATE)), Depends(refuse_unknown_parameters)],
)

MOST_MOVES = 1000


class Figure(Body):
    """A number with its 95 % interval; null where the data do not carry it."""

    value: float | None
    low: float | None
    high: float | None


class Sides(Body):
    """Which side of a p-value both models put the same studies on."""

    level: float
    both: int
    served_only: int
    shadow_only: int
    neither: int
    same: Share
    kappa: Figure = Field(description="Cohen's; null where a model puts every study on one side.")


class Move(Body):
    """One study at two places among those that both scored; 1 is most unusual."""

    key: str
    served_rank: float
    shadow_rank: float
    served_percentile: float
    shadow_percentile: float


class Seconds(Body):
    """What scoring a study took."""

    studies: int
    median: float | None
    late: float | None = Field(description="19 of 20 took no longer.")


class Agreement(Body):
    """Two models on the studies that both looked at. It does not say which is right."""

    studies: int
    scored: int
    spearman: Figure
    kendall: Figure
    sides: list[Sides]
    moves: list[Move]
    only_served: dict[str, int] = Field(description="Declined by the model in service alone, by reason.")
    only_shadow: dict[str, int] = Field(description="Declined by the shadow alone, by reason.")
    both_declined: int
    served_seconds: Seconds
    shadow_seconds: Seconds


class Shadow(Body):
    """The model that only watches; null where none does."""

    disclaimer: str
    served: Model | None
    shadow: Model | None
    rows: dict[State, int] = Field(description="Its studies by state; queued: it will look at them.")
    agreement: Agreement | None


@router.get("/shadow")
def read_shadow(
    parts: PartsOf,
    top: Annotated[int, Query(ge=0, le=MOST_MOVES, description="Studies named that move most.")] = 20,
) -> Shadow:
    """How far the model in service and the shadow agree. A shadow moves no study and sends nothing."""
    served = parts.model_now
    model, rows, found = beside(parts, top=top)
    return Shadow(
        disclaimer=parts.disclaimer,
        served=None
        if served is None
        else Model(name=served.name, version=served.version, sha256=served.sha256),
        shadow=model,
        rows=rows,
        agreement=None if found is None else Agreement.model_validate(found),
    )


def beside(
    parts: Parts, *, top: int = comparing.MOST_MOVES
) -> tuple[Model | None, dict[State, int], Comparison | None]:
    """Return the shadow, how many studies it has in each state, and its comparison with who serves."""
    served = parts.model_now
    try:
        chosen = shadow_of(parts.settings.data)
    except SettingsError:  # the command that mends it says what is wrong
        chosen = None
    if chosen is None:
        return None, {}, None
    with parts.store.transaction() as session:
        rows = shadows.count(session, chosen.sha256)
        name, version = shadows.name_of(session, chosen.sha256)
        pairs = () if served is None else shadows.pairs(session, served.sha256, chosen.sha256)
    model = Model(name=name, version=version, sha256=chosen.sha256)
    return model, rows, None if served is None else comparing.compare(pairs, most_moves=top)
