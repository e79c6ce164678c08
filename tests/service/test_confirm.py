from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.errors import (
    DestinationBusyError,
    DestinationRefusedError,
    NotOfferedError,
    SopClassRefusedError,
)
from dicom_node.identity import instance_file_name
from dicom_node.peers import Confirm
from dicom_node.services.commitment import Mailbox, Report
from service import engine
from service.confirm import CLASS_CONFLICT, MISSES_BEFORE_RESEND
from service.engine import Pool
from service.replay import replay
from service.store import Store, deliveries
from service.store.tables import AuditRow, DeliveryRow
from service.study import DeliveryStatus
from tests.fakes import FakeDestination
from tests.ordered import ordered
from tests.service.test_deliver import attempt, delivery_id, delivery_to, row
from tests.service.test_jobs import SCORED
from tests.service.test_studies import KEY

pytestmark = pytest.mark.postgres

__all__ = ["delivery_id"]

UID = SCORED.results[0].sop_instance_uid


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path / "commitment")


def step(
    store: Store, destination: FakeDestination, mailbox: Mailbox, delivery: int, times: int = 1
) -> DeliveryRow:
    for _ in range(times):
        attempt(delivery_to(store, destination, mailbox=mailbox), delivery)
    return row(store, delivery)


def report(mailbox: Mailbox, transaction_uid: str, reason: int | None = None) -> None:
    name = instance_file_name(UID)
    given = (
        Report(held=frozenset({name}), failed={})
        if reason is None
        else Report(held=frozenset(), failed={name: reason})
    )
    assert mailbox.put(transaction_uid, given, peers=["pacs"])


def test_a_committed_result_is_stored(store: Store, delivery_id: int, mailbox: Mailbox) -> None:
    destination = FakeDestination(confirm=Confirm.COMMITMENT)
    sent = step(store, destination, mailbox, delivery_id)
    asked = step(store, destination, mailbox, delivery_id)
    ((transaction_uid, references),) = destination.asked
    report(mailbox, transaction_uid)

    ended = step(store, destination, mailbox, delivery_id, times=2)

    assert (sent.status, sent.ended_at) == (DeliveryStatus.DELIVERED, None)
    assert asked.transaction_uid == transaction_uid
    assert [reference.sop_instance_uid for reference in references] == [UID]
    assert (ended.status, ended.confirmed_by) == (DeliveryStatus.STORED, "commitment")
    assert ended.ended_at is not None
    assert len(destination.sent) == len(destination.asked) == 1
    with store.transaction() as session:
        actions = session.scalars(select(AuditRow.action).order_by(AuditRow.number)).all()
    assert actions == ["result.delivered", "result.stored"]


def test_while_no_report_comes_a_job_waits_for_it(store: Store, delivery_id: int, mailbox: Mailbox) -> None:
    destination = FakeDestination(confirm=Confirm.COMMITMENT)

    ended = step(store, destination, mailbox, delivery_id, times=4)

    assert (ended.status, ended.ended_at, len(destination.asked)) == (DeliveryStatus.DELIVERED, None, 1)
    with store.transaction() as session:
        assert delivery_id in deliveries.waiting(session)
        assert engine.depth(session)[Pool.DELIVER].waiting > 0


def test_a_report_that_never_comes_is_replaced_by_a_query(
    store: Store, delivery_id: int, mailbox: Mailbox
) -> None:
    destination = FakeDestination(confirm=Confirm.COMMITMENT, commitment_s=60.0)
    step(store, destination, mailbox, delivery_id, times=3)
    with store.transaction() as session:
        waiting = session.get(DeliveryRow, delivery_id)
        assert waiting is not None
        waiting.asked_at = datetime.now(UTC) - timedelta(seconds=61)

    ended = step(store, destination, mailbox, delivery_id)

    assert (ended.status, ended.confirmed_by, ended.fallback) == (
        DeliveryStatus.STORED,
        "query",
        "commitment_timeout",
    )


def test_where_commitment_is_not_offered_the_destination_is_queried(
    store: Store, delivery_id: int, mailbox: Mailbox
) -> None:
    destination = FakeDestination(confirm=Confirm.COMMITMENT, offers=NotOfferedError("no"))

    ended = step(store, destination, mailbox, delivery_id, times=3)

    assert (ended.status, ended.confirmed_by, ended.fallback) == (
        DeliveryStatus.STORED,
        "query",
        "commitment_not_offered",
    )


@pytest.mark.parametrize("way", [Confirm.QUERY, Confirm.COMMITMENT])
def test_what_the_destination_does_not_hold_is_sent_again(
    store: Store, delivery_id: int, mailbox: Mailbox, way: Confirm
) -> None:
    destination = FakeDestination(confirm=way, answers=False)
    step(store, destination, mailbox, delivery_id, times=2)
    for transaction_uid, _ in destination.asked:
        report(mailbox, transaction_uid, reason=0x0112)

    again = step(store, destination, mailbox, delivery_id, times=MISSES_BEFORE_RESEND)
    destination.answers = True
    ended = step(store, destination, mailbox, delivery_id, times=2)

    assert again.fallback in {"missing_at_destination", "commitment_failed"}
    assert len(destination.sent) == 2
    assert (ended.status, ended.confirmed_by) == (DeliveryStatus.STORED, "query")


def test_an_object_of_another_class_under_the_uid_is_left_to_a_person(
    store: Store, delivery_id: int, mailbox: Mailbox
) -> None:
    destination = FakeDestination(confirm=Confirm.COMMITMENT)
    step(store, destination, mailbox, delivery_id, times=2)
    report(mailbox, destination.asked[0][0], reason=CLASS_CONFLICT)

    ended = step(store, destination, mailbox, delivery_id)

    assert (ended.status, ended.fallback) == (DeliveryStatus.UNDELIVERED, "commitment_failed")


def test_a_destination_that_answers_no_question_keeps_its_result_delivered(
    store: Store, delivery_id: int, mailbox: Mailbox
) -> None:
    destination = FakeDestination(confirm=Confirm.QUERY, answers=NotOfferedError("no query"))

    ended = step(store, destination, mailbox, delivery_id, times=2)

    assert (ended.status, ended.confirmed_by, ended.fallback) == (
        DeliveryStatus.DELIVERED,
        None,
        "confirmation_not_offered",
    )
    assert ended.ended_at is not None


def test_a_destination_that_went_away_after_the_delivery_is_asked_a_bounded_number_of_times(
    store: Store, delivery_id: int, mailbox: Mailbox
) -> None:
    destination = FakeDestination(confirm=Confirm.QUERY, answers=DestinationBusyError("away"))

    ended = step(store, destination, mailbox, delivery_id, times=10)

    assert (ended.status, ended.fallback) == (DeliveryStatus.DELIVERED, "confirmation_timeout")
    assert len(destination.sent) == 1


def test_a_refused_class_says_so_and_another_refusal_does_not(
    store: Store, delivery_id: int, mailbox: Mailbox
) -> None:
    refused = step(store, FakeDestination(SopClassRefusedError("class")), mailbox, delivery_id)
    ordered(store, replay, KEY)
    otherwise = step(store, FakeDestination(DestinationRefusedError("other")), mailbox, delivery_id)

    assert (refused.status, refused.fallback) == (DeliveryStatus.UNDELIVERED, "sop_class_refused")
    assert (otherwise.status, otherwise.fallback) == (DeliveryStatus.UNDELIVERED, None)


def test_only_the_peer_that_was_asked_may_report(mailbox: Mailbox) -> None:
    mailbox.ask("1.2", "pacs")
    given = Report(held=frozenset({"x"}), failed={})

    assert not mailbox.put("1.2", given, peers=["other"])
    assert not mailbox.put("1.3", given, peers=["pacs"])
    assert mailbox.report("1.2") is None
    assert mailbox.put("1.2", given, peers=["other", "pacs"])
    assert mailbox.report("1.2") == given


def test_a_mailbox_forgets_what_is_old(mailbox: Mailbox) -> None:
    mailbox.ask("1.2", "pacs")

    assert (mailbox.sweep(), mailbox.sweep(older_than_s=0.0)) == (0, 1)
    assert not mailbox.put("1.2", Report(held=frozenset(), failed={}), peers=["pacs"])
