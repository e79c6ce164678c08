"""What an operator does to a study: score it again, send its results again, more urgent, cancel, park."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field
from sqlalchemy.orm import Session

from service import orders, replay
from service.access import Permission
from service.admission import Admission
from service.api.callers import require
from service.api.dependencies import Key, Parts, refuse_unknown_parameters
from service.api.once import Act, ActOf
from service.api.problems import no_model
from service.api.schemas import Body
from service.orders import Ordered
from service.study import Priority

router = APIRouter(
    prefix="/api/v1/studies",
    tags=["operating"],
    dependencies=[Depends(require(Permission.OPERATE)), Depends(refuse_unknown_parameters)],
)

LONGEST_DESTINATION = 64


class Change(Body):
    """What an order changed."""

    changed: bool = Field(description="False where all was so before.")
    scores: int = Field(0, description="Scores that it queued, ended, put aside or let go on.")
    deliveries: int = Field(0, description="Deliveries that it queued, ended or let go on.")
    reason: str | None = Field(
        None,
        description="Why nothing is scored again: in_hand (the score is on its way) or same_model (the model "
        "in service has scored these instances, and would say the same).",
    )


class Resend(Body):
    """Where the results are to be sent again."""

    destination: Annotated[str, Field(min_length=1, max_length=LONGEST_DESTINATION)] | None = Field(
        None, description="Name of a peer; null: wherever they went."
    )


class Urgency(Body):
    """How urgent a study is to be."""

    priority: Annotated[str, Field(pattern="^(screening|routine|urgent|stat)$")]


@router.post("/{key}/rescore")
def rescore_study(act: ActOf, key: Key) -> Change:
    """Score a study again: one that failed, or one that another model has scored."""
    ours = admission(act.parts)
    return _replayed(act, lambda session: replay.rescore(session, key, actor=act.caller.name, admission=ours))


@router.post("/{key}/resend")
def resend_results(act: ActOf, key: Key, wanted: Resend) -> Change:
    """Send the results that count again, with the UIDs of the first time."""
    return _replayed(
        act,
        lambda session: replay.resend(session, key, actor=act.caller.name, destination=wanted.destination),
    )


@router.post("/{key}/priority")
def raise_priority(act: ActOf, key: Key, wanted: Urgency) -> Change:
    """Make a study and its waiting work more urgent. It is never lowered: asked for less, nothing changes."""
    priority = Priority[wanted.priority.upper()]
    return _ordered(act, lambda session: orders.prioritise(session, key, priority, actor=act.caller.name))


@router.post("/{key}/cancel")
def cancel_study(act: ActOf, key: Key) -> Change:
    """End what of a study waits or runs. Scored again, it goes on."""
    return _ordered(act, lambda session: orders.cancel(session, key, actor=act.caller.name))


@router.post("/{key}/park")
def park_study(act: ActOf, key: Key) -> Change:
    """Put a study aside: received and kept, not scored, and shown as such."""
    return _ordered(act, lambda session: orders.park(session, key, actor=act.caller.name))


@router.post("/{key}/unpark")
def unpark_study(act: ActOf, key: Key) -> Change:
    """Let a parked study go on."""
    return _ordered(act, lambda session: orders.unpark(session, key, actor=act.caller.name))


def _ordered(act: Act, order: Callable[[Session], Ordered]) -> Change:
    return act.once(Change, lambda session: Change.model_validate(order(session)))


def _replayed(act: Act, order: Callable[[Session], replay.Replayed]) -> Change:
    def do(session: Session) -> Change:
        done = order(session)
        return Change(
            changed=bool(done.scores or done.deliveries),
            scores=done.scores,
            deliveries=done.deliveries,
            reason=done.why,
        )

    return act.once(Change, do)


def admission(parts: Parts) -> Admission:
    """What queues studies for the model in service.

    Raises
    ------
    ProblemError
        503 where this process does not know it.
    """
    model, calibrations = parts.model_now, parts.calibrations
    if model is None or calibrations is None:
        raise no_model()
    sha256 = model.sha256
    return Admission(model_hash=lambda: sha256, config_digest=calibrations.config_digest)
