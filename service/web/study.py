"""What the page of one study shows, gathered from the store in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from service.access import Caller, Masking, Permission
from service.store import maps, referrals
from service.store.detail import Event, study_detail
from service.store.looks import THUMBNAIL
from service.store.maps import Viewed
from service.store.stages import Stage
from service.study import Band
from service.volumes import MOST_VOXELS
from service.web import card, curve, present, words

REFERRAL_DUE = timedelta(days=14)  # what the form proposes
FULL = 100.0  # width of the longest bar of the stages


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one caller did with a study, as the audit trail has it: how often, and when last."""

    actor: str
    action: str
    count: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One stage of a study, and its share of the longest one."""

    stage: Stage
    label: str
    width: float


def gather(
    session: Session,
    key: str,
    *,
    caller: Caller,
    frame: int | None,
    longest_unread_s: float,
    masking: Masking,
    card_of: Callable[[str], str | None],
) -> dict[str, Any]:
    """Values of the template.

    Parameters
    ----------
    session : Session
    key : str
    caller : Caller
        Who looks; what they may not do is not offered.
    frame : int or None
        Picture to show large, from 0; None: the most telling one.
    longest_unread_s, masking
        As for the list (`service.store.worklist.worklist`).
    card_of : callable
        Hash of a model to the Markdown of its card.

    Raises
    ------
    UnknownStudyError
        If no study has this key.
    """
    detail = study_detail(session, key, longest_unread_s=longest_unread_s, masking=masking)
    viewed = maps.viewed(session, key)
    is_scored = detail.row.assessment is not None
    current = detail.current if is_scored else None
    thumbnails = present.strip(current.pictures, current.regions) if current and detail.has_pictures else []
    first = thumbnails[0].frame if thumbnails else 0
    text = card_of(detail.current.model.sha256) if detail.current and is_scored else None
    return {
        "detail": detail,
        "row": detail.row,
        "current": detail.current,
        "thumbnails": thumbnails,
        "frame": min(first if frame is None else frame, max(current.pictures - 1, 0)) if current else 0,
        "identity": detail.row.identity,
        "plot": curve.plot(viewed.map.curve) if viewed else None,
        "bands": viewed.map.curve.bands if viewed else (),
        "has_volume": _is_shown(viewed),
        "bars": bars(detail.stages),
        "looks": looks(detail.timeline),
        "referrals": referrals.of_study(session, key),
        "due_by": datetime.now(UTC).astimezone().date() + REFERRAL_DUE,
        "card": card.render(text) if text else None,
        "may_read": caller.may(Permission.READ),
        "may_operate": caller.may(Permission.OPERATE),
        "refresh": detail.row.band is Band.PENDING,
    }


def _is_shown(viewed: Viewed | None) -> bool:
    return viewed is not None and viewed.map.voxels <= MOST_VOXELS


def bars(stages: Sequence[Stage]) -> list[Bar]:
    """Stages as bars of one scale."""
    longest = max((stage.seconds for stage in stages), default=0.0)
    return [
        Bar(
            stage=stage,
            label=words.STAGES.get(stage.name, stage.name),
            width=FULL * stage.seconds / longest if longest > 0 else 0.0,
        )
        for stage in stages
    ]


def looks(timeline: Sequence[Event]) -> list[Look]:
    """Who looked, newest first, one line for each caller and kind of look. A picture on a list is none."""
    found: dict[tuple[str, str], Look] = {}
    for event in timeline:
        if event.action in words.LOOKS and event.detail.get("kind") != THUMBNAIL:
            before = found.pop((event.actor, event.action), None)
            found[event.actor, event.action] = Look(
                actor=event.actor,
                action=event.action,
                count=before.count + 1 if before else 1,
                at=event.at,
            )
    return list(reversed(found.values()))
