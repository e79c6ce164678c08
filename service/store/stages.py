"""Where the time of a study went: each stage of its current revision, when it ended and what it cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from service.store.tables import DeliveryRow, ScoreRow, StudyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage.

    Attributes
    ----------
    name : str
        ``received``, ``complete``, ``queued``, ``claimed``, the parts ``fetch``, ``read``, ``score``,
        ``build`` and ``keep``, ``scored`` or how else the score ended, and of each delivery
        ``sent`` and ``confirmed``.
    of : str
        What more there is to say: trigger, attempts, kind and destination.
    at : datetime
        When it ended.
    seconds : float
        From the end of the stage before it; of the parts and of ``sent`` what the work itself took.
    """

    name: str
    of: str
    at: datetime
    seconds: float


def stages_of(study: StudyRow) -> tuple[Stage, ...]:
    """Stages that the newest revision and the score that counts have reached, in order."""
    return tuple(_stages(study))


def _stages(study: StudyRow) -> Iterator[Stage]:
    last = study.last_instance_at
    yield _stage("received", "first to last instance", study.received_at, last)
    revision = study.revisions[-1] if study.revisions else None
    if revision is None or study.completed_at is None:
        return
    yield _stage("complete", revision.completed_by, last, study.completed_at)
    score = revision.scores[-1] if revision.scores else None
    if score is None:
        return
    yield _stage("queued", "", study.completed_at, revision.created_at)
    if score.began_at is None:
        return
    yield _stage("claimed", f"attempt {score.attempts}", revision.created_at, score.began_at)
    if score.ended_at is not None:
        yield from _scoring(score, score.began_at, score.ended_at)


def _scoring(score: ScoreRow, began_at: datetime, ended_at: datetime) -> Iterator[Stage]:
    for part in ("fetch", "read", "score", "build", "keep"):
        if part in score.seconds:
            yield Stage(name=part, of="", at=ended_at.astimezone(UTC), seconds=float(score.seconds[part]))
    yield _stage(score.state.value, score.reason or "", began_at, ended_at)
    for result in score.results:
        for delivery in result.deliveries:
            yield from _sending(delivery, f"{result.kind} to {delivery.destination}")


def _sending(delivery: DeliveryRow, what: str) -> Iterator[Stage]:
    if delivery.delivered_at is None:
        return
    of = f"{what}, attempts: {delivery.attempts}"
    if delivery.attempts > 1 and delivery.began_at is not None:
        of += f" in {(delivery.delivered_at - delivery.began_at).total_seconds():.1f} s"
    yield Stage(name="sent", of=of, at=delivery.delivered_at.astimezone(UTC), seconds=delivery.seconds)
    if delivery.confirmed_by is not None and delivery.ended_at is not None:
        yield _stage(
            "confirmed", f"{what}, {delivery.confirmed_by}", delivery.delivered_at, delivery.ended_at
        )


def _stage(name: str, of: str, since: datetime, until: datetime) -> Stage:
    return Stage(
        name=name, of=of, at=until.astimezone(UTC), seconds=max((until - since).total_seconds(), 0.0)
    )
