from datetime import timedelta

import pytest
from sqlalchemy import select

from service.store import Store, looks
from service.store.tables import AuditRow

pytestmark = pytest.mark.postgres

KEY = "a" * 20


def told(store: Store) -> list[tuple[str, str, str | None]]:
    with store.transaction() as session:
        rows = session.scalars(select(AuditRow).order_by(AuditRow.number))
        return [(row.actor, row.action, row.study_key) for row in rows]


def test_a_page_that_reads_itself_again_is_one_look_of_one_person(store: Store) -> None:
    for actor in ("ada", "ada", "grace", "ada"):
        with store.transaction() as session:
            looks.viewed(session, KEY, actor=actor)

    assert told(store) == [("ada", "study.viewed", KEY), ("grace", "study.viewed", KEY)]


def test_a_picture_on_a_list_neither_hides_nor_is_an_opened_study(store: Store) -> None:
    for kind in (looks.THUMBNAIL, looks.THUMBNAIL, None, None, looks.THUMBNAIL):
        with store.transaction() as session:
            looks.viewed(session, KEY, actor="ada", kind=kind)

    with store.transaction() as session:
        details = session.scalars(select(AuditRow.detail).order_by(AuditRow.number)).all()
    assert details == [{"kind": "thumbnail"}, {}]


def test_a_thousand_frames_are_one_row_and_another_kind_is_another(store: Store) -> None:
    for kind in ("frames", "frames", "metadata", "frames"):
        with store.transaction() as session:
            looks.fetched(session, KEY, kind, actor="ada")

    with store.transaction() as session:
        rows = session.scalars(select(AuditRow).order_by(AuditRow.number)).all()
    assert [(row.action, row.detail) for row in rows] == [
        ("dicomweb.retrieved", {"kind": "frames"}),
        ("dicomweb.retrieved", {"kind": "metadata"}),
    ]


def test_a_look_a_while_later_is_another_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "REPEAT", timedelta(0))
    for _ in range(2):
        with store.transaction() as session:
            looks.viewed(session, KEY, actor="ada")

    assert len(told(store)) == 2


def test_another_filter_is_another_query_and_another_page_is_not(store: Store) -> None:
    for filters in ({}, {"modality": "MR"}, {"modality": None}, {"modality": "MR"}, {"modality": "CT"}):
        with store.transaction() as session:
            looks.queried(session, "worklist", filters, found=3, actor="ada")

    with store.transaction() as session:
        details = session.scalars(select(AuditRow.detail).order_by(AuditRow.number)).all()
    assert [detail["filters"] for detail in details] == [{}, {"modality": "MR"}, {"modality": "CT"}]
    assert details[0] == {"what": "worklist", "filters": {}, "found": 3}


def test_what_somebody_searched_for_is_not_told(store: Store) -> None:
    with store.transaction() as session:
        looks.queried(session, "worklist", {"text": "Planted^Name"}, found=1, actor="ada")

    with store.transaction() as session:
        (detail,) = session.scalars(select(AuditRow.detail))
    assert detail["filters"] == {"text": "withheld"}
