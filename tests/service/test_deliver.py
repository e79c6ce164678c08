import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.errors import DestinationBusyError, DestinationRefusedError
from dicom_node.scu import Receipt
from dicom_node.services.commitment import Mailbox
from service import engine
from service.deliver import Delivery
from service.engine import Pool
from service.replay import Replayed, replay
from service.store import Store, audit, jobs, studies
from service.store.objects import Unchecked
from service.store.tables import AuditRow, DeliveryRow, ResultRow
from service.study import DeliveryStatus
from service.turns import AT_ONCE, LONGEST_PAUSE_S, pause_s
from tests.fakes import FakeDestination
from tests.ordered import ordered
from tests.service.test_jobs import SCORED
from tests.service.test_studies import KEY, NOON, arrival

pytestmark = pytest.mark.postgres


@pytest.fixture
def delivery_id(store: Store) -> int:
    """A report that waits to be sent to the archive."""
    with store.transaction() as session:
        studies.register(session, KEY, [arrival("a")])
        revision = studies.complete(session, KEY, completed_by="quiet_period", now=NOON)
        assert revision is not None
        score_id = jobs.queue(session, revision.id, model_hash="m", config_digest="c", run_at=NOON)
        job = jobs.begin(session, score_id or 0)
        assert job is not None
        (delivery_id,) = jobs.record(session, job, SCORED, lambda _: ["pacs"]) or []
        return delivery_id


def delivery_to(
    store: Store, destination: FakeDestination, *, attempts: int = 3, mailbox: Mailbox | None = None
) -> Delivery:
    return Delivery(
        store=store,
        objects=Unchecked(Path("results")),
        destinations={"pacs": destination},
        attempts=attempts,
        mailbox=mailbox or Mailbox(Path("nowhere")),
    )


def attempt(delivery: Delivery, delivery_id: int) -> None:
    """One attempt, as the worker makes it."""
    try:
        delivery.run(delivery_id)
    except (DestinationBusyError, DestinationRefusedError) as error:
        delivery.failed(delivery_id, error)


def row(store: Store, delivery_id: int) -> DeliveryRow:
    with store.transaction() as session:
        found = session.get(DeliveryRow, delivery_id)
        assert found is not None
        return found


def test_a_delivered_result_is_sent_once_and_audited(store: Store, delivery_id: int) -> None:
    destination = FakeDestination()
    delivery = delivery_to(store, destination)

    for _ in range(2):
        attempt(delivery, delivery_id)

    assert destination.sent == [Path("results/x/1.dcm").absolute()]
    assert row(store, delivery_id).status is DeliveryStatus.DELIVERED
    with store.transaction() as session:
        actions = session.scalars(select(AuditRow.action)).all()
        audit.verify(session)
    assert actions == ["result.delivered"]


def test_a_busy_destination_is_tried_later_and_in_the_end_left_to_a_person(
    store: Store, delivery_id: int
) -> None:
    delivery = delivery_to(store, FakeDestination(DestinationBusyError("busy", 0xA700)))
    begun = datetime.now(UTC)

    attempt(delivery, delivery_id)
    first = row(store, delivery_id)
    attempt(delivery, delivery_id)
    attempt(delivery, delivery_id)

    assert (first.status, first.attempts, first.answer) == (DeliveryStatus.WAITING, 1, 0xA700)
    assert first.next_attempt_at > begun
    with store.transaction() as session:
        assert engine.depth(session)[Pool.DELIVER].waiting == 2
    assert row(store, delivery_id).status is DeliveryStatus.UNDELIVERED


def test_a_refusal_is_not_repeated(store: Store, delivery_id: int) -> None:
    delivery = delivery_to(store, FakeDestination(DestinationRefusedError("refused", 0x0122)))

    attempt(delivery, delivery_id)

    ended = row(store, delivery_id)
    assert (ended.status, ended.attempts, ended.error) == (DeliveryStatus.UNDELIVERED, 1, "refused")


def test_a_destination_that_left_the_peers_file_is_told(store: Store, delivery_id: int) -> None:
    delivery = Delivery(
        store=store, objects=Unchecked(Path()), destinations={}, attempts=3, mailbox=Mailbox(Path())
    )

    attempt(delivery, delivery_id)

    assert "peers file" in row(store, delivery_id).error


def test_pauses_grow_to_their_limit() -> None:
    pauses = [pause_s(attempt) for attempt in range(1, 40)]

    assert pauses == sorted(pauses)
    assert pauses[0] < 5
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_person_can_have_an_undelivered_result_sent_again(store: Store, delivery_id: int) -> None:
    attempt(delivery_to(store, FakeDestination(DestinationRefusedError("refused"))), delivery_id)
    destination = FakeDestination()

    replayed = ordered(store, replay, KEY)
    attempt(delivery_to(store, destination), delivery_id)

    assert (replayed.scores, replayed.deliveries) == (0, 1)
    assert row(store, delivery_id).status is DeliveryStatus.DELIVERED
    assert ordered(store, replay, KEY) == Replayed(scores=0, deliveries=0)


class HangingDestination(FakeDestination):
    """A destination that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.answer = threading.Event()
        self.refuses = ""  # file name

    def send(self, paths: Sequence[Path]) -> list[Receipt]:
        self.asked.release()
        assert self.answer.wait(60)
        if paths[0].name == self.refuses:
            return [Receipt(path=paths[0], status=None, error=DestinationBusyError("busy"))]
        return super().send(paths)


def test_a_destination_that_hangs_holds_only_its_own_places(store: Store, delivery_id: int) -> None:
    slow = HangingDestination()
    delivery = delivery_to(store, slow)
    hanging = [threading.Thread(target=attempt, args=(delivery, delivery_id)) for _ in range(AT_ONCE)]
    for thread in hanging:
        thread.start()
        assert slow.asked.acquire(timeout=60)

    attempt(delivery, delivery_id)  # returns at once, to ask again later

    with store.transaction() as session:
        assert engine.depth(session)[Pool.DELIVER].waiting == 1
    assert row(store, delivery_id).attempts == AT_ONCE
    slow.answer.set()
    for thread in hanging:
        thread.join()


def test_what_stepped_aside_goes_as_soon_as_its_destination_is_free(store: Store, delivery_id: int) -> None:
    slow = HangingDestination()
    delivery = delivery_to(store, slow)
    others = _two_more(store, delivery_id)
    hanging = [threading.Thread(target=attempt, args=(delivery, one)) for one in (delivery_id, others[0])]
    for thread in hanging:
        thread.start()
        assert slow.asked.acquire(timeout=60)
    attempt(delivery, others[1])
    assert row(store, others[1]).attempts == 0

    slow.answer.set()
    for thread in hanging:
        thread.join()

    assert {row(store, one).status for one in (delivery_id, *others)} == {DeliveryStatus.DELIVERED}
    assert len(slow.sent) == 3


def test_what_fails_on_the_way_along_keeps_its_pause(store: Store, delivery_id: int) -> None:
    slow = HangingDestination()
    delivery = delivery_to(store, slow)
    others = _two_more(store, delivery_id)
    hanging = [threading.Thread(target=attempt, args=(delivery, one)) for one in (delivery_id, others[0])]
    for thread in hanging:
        thread.start()
        assert slow.asked.acquire(timeout=60)
    attempt(delivery, others[1])

    slow.refuses = "sc.dcm"
    slow.answer.set()
    for thread in hanging:
        thread.join()

    assert (row(store, others[1]).status, row(store, others[1]).attempts) == (DeliveryStatus.WAITING, 1)
    with store.transaction() as session:
        assert engine.depth(session)[Pool.DELIVER].waiting == 1


def _two_more(store: Store, delivery_id: int) -> list[int]:
    """Two results of the same score, for the same destination."""
    made = []
    with store.transaction() as session:
        first = session.get_one(DeliveryRow, delivery_id).result
        for kind in ("seg", "sc"):
            result = ResultRow(
                score_id=first.score_id,
                kind=kind,
                sop_class_uid=first.sop_class_uid,
                sop_instance_uid=f"{first.sop_instance_uid}.{len(made)}",
                path=f"x/{kind}.dcm",
                sha256="0" * 64,
                bytes=1,
            )
            result.deliveries = [DeliveryRow(destination="pacs", status=DeliveryStatus.WAITING)]
            session.add(result)
            session.flush()
            made.append(result.deliveries[0].id)
    return made
