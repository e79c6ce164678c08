from datetime import timedelta

import pytest

from service.store.detail import Event
from service.store.stages import Stage
from service.web.study import bars, looks
from tests.seeds import MORNING


def event(number: int, actor: str, action: str, **detail: str) -> Event:
    at = MORNING + timedelta(minutes=number)
    return Event(number=number, at=at, actor=actor, action=action, detail=detail)


def test_looks_are_counted_by_who_and_what_newest_first() -> None:
    found = looks(
        [
            event(1, "node", "study.received"),
            event(2, "ada", "study.viewed"),
            event(3, "bob", "identity.revealed"),
            event(4, "ada", "study.viewed"),
            event(5, "eve", "study.viewed", kind="thumbnail"),  # its picture stood on a list
        ]
    )

    assert [(look.actor, look.action, look.count, look.at.minute) for look in found] == [
        ("ada", "study.viewed", 2, 4),
        ("bob", "identity.revealed", 1, 3),
    ]


def test_bars_share_one_scale() -> None:
    stages = [Stage(name=name, of="", at=MORNING, seconds=s) for name, s in (("read", 1.0), ("score", 4.0))]

    assert [bar.width for bar in bars(stages)] == pytest.approx([25.0, 100.0])
    assert bars([Stage(name="read", of="", at=MORNING, seconds=0.0)])[0].width == 0.0
