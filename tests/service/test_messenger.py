import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node.channel import Event, WebhookChannel
from dicom_node.errors import DeliveryError, UnknownPeerError
from dicom_node.peer import Timeouts
from dicom_node.peers import Peers
from service import announce, engine, orders
from service.engine import Pool
from service.messages import Senders
from service.messenger import Messenger
from service.reaper import Reaper
from service.store import Store, audit, outbox, reports
from service.store.tables import AuditRow, ChannelRow, MessageRow, ScoreRow, StudyRow
from service.study import MessageStatus, State
from tests.receivers import HANG, HttpReceiver, http_receiver
from tests.seeds import Seed, plant, study_key

pytestmark = pytest.mark.postgres


@pytest.fixture
def board() -> Iterator[HttpReceiver]:
    with http_receiver() as running:
        yield running


@pytest.fixture
def other() -> Iterator[HttpReceiver]:
    with http_receiver() as running:
        yield running


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(base64.b64encode(b"k" * 32).decode())
    return path


def messenger_to(
    store: Store,
    secret: Path,
    *receivers: HttpReceiver,
    attempts: int = 3,
    events: frozenset[Event] = frozenset(Event),
    answer_s: float = 5.0,
) -> Messenger:
    """Messenger with one webhook a receiver, named by its place, and the channels told to the database."""
    channels = tuple(
        WebhookChannel(
            name=f"hook-{number}",
            protocol="webhook",
            url=receiver.url,
            secrets=(secret,),
            events=events,
            timeouts=Timeouts(answer_s=answer_s),
        )
        for number, receiver in enumerate(receivers)
    )
    peers = Peers((), channels)
    messenger = Messenger(
        store=store,
        senders=Senders(peers),
        channels=lambda: {channel.name: channel.told for channel in peers.channels},
        attempts=attempts,
    )
    messenger.follow()
    return messenger


def tell(store: Store, *seeds: Seed) -> list[int]:
    """Plant ended studies and announce each; return the messages that were written."""
    with store.transaction() as session:
        plant(session, *seeds)
        for seed in seeds:
            announced(session, seed)
        return list(session.scalars(select(MessageRow.id).order_by(MessageRow.id)))


def announced(session: Session, seed: Seed) -> None:
    found = reports.newest_report(session, seed.key)
    assert found is not None
    announce.announce_end(session, found.score_id)


def tell_again(store: Store, seed: Seed, minutes: int) -> int:
    """Announce that a study's score ended once more, later; return the newest message."""
    with store.transaction() as session:
        ended = seed.received_at + timedelta(minutes=minutes)
        found = reports.newest_report(session, seed.key)
        assert found is not None
        session.execute(update(ScoreRow).where(ScoreRow.id == found.score_id).values(ended_at=ended))
        announce.announce_end(session, found.score_id)
        return session.scalars(select(MessageRow.id).order_by(MessageRow.id.desc()).limit(1)).one()


def work(messenger: Messenger, *row_ids: int) -> None:
    """One attempt on each, as the worker makes it."""
    for row_id in row_ids:
        try:
            messenger.run(row_id)
        except DeliveryError as error:
            messenger.failed(row_id, error)


def by_hand(store: Store, order: Callable[..., Any], *what: str, **more: str) -> Any:
    """What a person orders, in a transaction of its own."""
    with store.transaction() as session:
        return order(session, *what, actor="operator", **more)


def row(store: Store, row_id: int) -> MessageRow:
    with store.transaction() as session:
        return session.get_one(MessageRow, row_id)


def queued(store: Store) -> int:
    with store.transaction() as session:
        return engine.depth(session)[Pool.MESSAGE].waiting


def test_a_state_change_is_told_in_its_own_transaction_or_not_at_all(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger_to(store, secret, board)

    with pytest.raises(RuntimeError, match="power"), store.transaction() as session:
        plant(session, Seed(name="a"))
        announced(session, Seed(name="a"))
        assert session.scalars(select(MessageRow.id)).all() != []
        raise RuntimeError("power cut")

    assert queued(store) == 0
    with store.transaction() as session:
        assert session.scalars(select(MessageRow.id)).all() == []


def test_without_a_channel_nothing_is_written(store: Store) -> None:
    assert tell(store, Seed(name="a")) == []
    assert queued(store) == 0


def test_a_channel_is_told_its_own_events_alone(store: Store, secret: Path, board: HttpReceiver) -> None:
    messenger_to(store, secret, board, events=frozenset({Event.FAILED}))

    assert tell(store, Seed(name="a")) == []
    (row_id,) = tell(store, Seed(name="b", state=State.FAILED))

    assert row(store, row_id).event == "study.failed"


def test_the_same_happening_told_twice_is_one_message(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger_to(store, secret, board)
    tell(store, Seed(name="a"))

    with store.transaction() as session:
        announced(session, Seed(name="a"))

    assert queued(store) == 1


def test_a_message_is_sent_once_and_audited(store: Store, secret: Path, board: HttpReceiver) -> None:
    messenger = messenger_to(store, secret, board)
    (row_id,) = tell(store, Seed(name="a", p_value=0.02))

    work(messenger, row_id, row_id)

    (came,) = board.received
    assert came.headers["webhook-id"] == row(store, row_id).message_id
    assert json.loads(came.body)["data"]["assessment"]["percentile"] == pytest.approx(2.0)
    assert (row(store, row_id).status, row(store, row_id).answer) == (MessageStatus.SENT, "204")
    with store.transaction() as session:
        audit.verify(session)
        assert session.scalars(select(AuditRow.action)).all()[-1] == "message.sent"


def test_a_receiver_in_trouble_gets_the_same_message_again_with_its_id(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger = messenger_to(store, secret, board)
    (row_id,) = tell(store, Seed(name="a"))
    board.answers = [503]
    begun = datetime.now(UTC)

    work(messenger, row_id)
    waiting = row(store, row_id)
    work(messenger, row_id)

    assert (waiting.status, waiting.attempts, waiting.answer) == (MessageStatus.WAITING, 1, "503")
    assert waiting.next_attempt_at > begun
    first, second = board.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert row(store, row_id).status is MessageStatus.SENT


def test_what_is_given_up_has_a_reason_and_a_person_sends_it_again(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger = messenger_to(store, secret, board)
    (row_id,) = tell(store, Seed(name="a"))
    board.answers = [422]

    work(messenger, row_id)
    dead = row(store, row_id)
    assert by_hand(store, orders.replay_messages) == 1
    work(messenger, row_id)

    assert (dead.status, dead.attempts) == (MessageStatus.DEAD, 1)
    assert "422" in dead.error
    assert row(store, row_id).status is MessageStatus.SENT
    assert by_hand(store, orders.replay_messages) == 0


def test_a_receiver_that_never_answers_ends_in_the_dead_letters(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger = messenger_to(store, secret, board, attempts=2)
    (row_id,) = tell(store, Seed(name="a"))
    board.answers = [500, 500]

    work(messenger, row_id, row_id)

    with store.transaction() as session:
        (listed,) = outbox.listed(session, status=MessageStatus.DEAD, limit=10)
    assert (listed.attempts, listed.lane) == (2, study_key("a"))


def test_a_newer_message_waits_for_the_older_one_of_its_study_alone(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger = messenger_to(store, secret, board)
    older, stranger = tell(store, Seed(name="a"), Seed(name="b"))
    newer = tell_again(store, Seed(name="a"), minutes=9)
    board.answers = [503]

    work(messenger, older, newer, stranger)
    assert [row(store, one).status for one in (older, newer, stranger)] == [
        MessageStatus.WAITING,
        MessageStatus.WAITING,
        MessageStatus.SENT,
    ]
    work(messenger, older, newer)

    sequences = [json.loads(came.body)["data"]["sequence"] for came in board.received]
    assert sequences == [older, stranger, older, newer]


def test_the_end_of_one_message_puts_the_next_of_its_study_into_the_queue(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger = messenger_to(store, secret, board)
    (older,) = tell(store, Seed(name="a"))
    newer = tell_again(store, Seed(name="a"), minutes=9)
    with store.transaction() as session:
        engine.cancel(session, Pool.MESSAGE, older)
        engine.cancel(session, Pool.MESSAGE, newer)  # its job came before its turn, and went

    work(messenger, older)

    assert queued(store) == 1


def test_what_was_given_up_is_not_sent_after_a_newer_one(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger = messenger_to(store, secret, board)
    (older,) = tell(store, Seed(name="a"))
    newer = tell_again(store, Seed(name="a"), minutes=9)
    board.answers = [400]
    work(messenger, older, newer)
    assert row(store, newer).status is MessageStatus.SENT

    by_hand(store, orders.replay_messages, channel="hook-0")
    work(messenger, older)

    assert row(store, older).status is MessageStatus.STALE
    assert len(board.received) == 2


def test_a_channel_that_hangs_never_holds_up_another(
    store: Store, secret: Path, board: HttpReceiver, other: HttpReceiver
) -> None:
    messenger = messenger_to(store, secret, board, other)
    row_ids = tell(store, *(Seed(name=name) for name in "abc"))
    by_channel = {row_id: row(store, row_id).channel for row_id in row_ids}
    board.answers = [HANG, HANG]
    hanging = [row_id for row_id in row_ids if by_channel[row_id] == "hook-0"]
    threads = [threading.Thread(target=work, args=(messenger, one)) for one in hanging[:2]]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
            assert board.asked.acquire(timeout=60)
        stack.callback(board.go_on.set)

        work(messenger, hanging[2], *(row_id for row_id in row_ids if by_channel[row_id] == "hook-1"))

        assert len(other.received) == 3
        assert row(store, hanging[2]).attempts == 0  # it stepped aside
    assert len(board.received) == 3  # and went along as soon as there was a place


def test_a_kill_between_sending_and_writing_it_down_sends_the_same_message_again(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    """At least once: the receiver has it, we do not know, and its id says that it is the same."""
    messenger = messenger_to(store, secret, board)
    (row_id,) = tell(store, Seed(name="a"))
    with store.transaction() as session:
        begun = outbox.begin(session, row_id)
        engine.cancel(session, Pool.MESSAGE, row_id)  # the job died with its process
    assert begun is not None

    assert Reaper(store=store, stalled_s=30).step() == 1
    work(messenger, row_id)

    assert [came.headers["webhook-id"] for came in board.received] == [begun.message_id]
    assert row(store, row_id).attempts == 2


def test_the_reaper_revives_the_first_of_each_study_alone(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger_to(store, secret, board)
    older, stranger = tell(store, Seed(name="a"), Seed(name="b"))
    newer = tell_again(store, Seed(name="a"), minutes=9)
    with store.transaction() as session:
        for row_id in (older, stranger, newer):
            engine.cancel(session, Pool.MESSAGE, row_id)

    assert Reaper(store=store, stalled_s=30).step() == 2
    assert Reaper(store=store, stalled_s=30).step() == 0


def test_a_parked_channel_waits_without_attempts(store: Store, secret: Path, board: HttpReceiver) -> None:
    messenger = messenger_to(store, secret, board)
    (row_id,) = tell(store, Seed(name="a"))
    by_hand(store, orders.park_destination, "hook-0")

    work(messenger, row_id)
    assert (row(store, row_id).attempts, board.received) == (0, [])
    assert by_hand(store, orders.unpark_destination, "hook-0").deliveries == 1
    work(messenger, row_id)

    assert row(store, row_id).status is MessageStatus.SENT


def test_a_channel_that_left_the_peers_file_is_told_nothing_more(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger_to(store, secret, board)
    (row_id,) = tell(store, Seed(name="a"))
    gone = messenger_to(store, secret)

    work(gone, row_id)

    assert "peers file" in row(store, row_id).error
    assert len(tell(store, Seed(name="b"))) == 1  # the one from before
    with pytest.raises(UnknownPeerError):
        Peers((), ()).channel("hook-0")


def test_a_study_that_gets_more_images_takes_back_what_was_told(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger = messenger_to(store, secret, board)
    (scored,) = tell(store, Seed(name="a"))
    with store.transaction() as session:
        found = reports.newest_report(session, study_key("a"))
        assert found is not None
        announce.announce_superseded(session, found)
        superseded = session.scalars(select(MessageRow.id).order_by(MessageRow.id.desc()).limit(1)).one()

    work(messenger, scored, superseded)

    told = [json.loads(came.body)["type"] for came in board.received]
    assert told == ["study.scored", "study.superseded"]
    assert json.loads(board.received[1].body)["data"]["assessment"] is None


def test_messages_that_are_over_leave_after_their_time_and_the_dead_stay(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    messenger = messenger_to(store, secret, board)
    sent, dead = tell(store, Seed(name="a"), Seed(name="b"))
    board.answers = [204, 400]
    work(messenger, sent, dead)

    with store.transaction() as session:
        outbox.purge(session, now=datetime.now(UTC) + outbox.KEEP + timedelta(minutes=1))
        left = session.scalars(select(MessageRow.id)).all()

    assert left == [dead]


def test_nothing_of_a_message_says_who_the_patient_is(
    store: Store, secret: Path, board: HttpReceiver
) -> None:
    """The description is text of a stranger, and may name the patient."""
    messenger = messenger_to(store, secret, board)
    (row_id,) = tell(store, Seed(name="a", description="MR brain DOE JANE"))

    work(messenger, row_id)

    assert b"DOE" not in board.received[0].body
    assert "DOE" not in json.dumps(row(store, row_id).content)
    with store.transaction() as session:
        assert session.scalars(select(StudyRow.description)).all() == ["MR brain DOE JANE"]


@pytest.mark.slow
def test_a_worker_killed_while_it_sends_sends_the_same_message_when_it_is_back(
    store: Store, secret: Path, board: HttpReceiver, tmp_path: Path
) -> None:
    """The real process on the real queue: its channel comes from the file, and kill -9 loses nothing."""
    channel = f'{{name: hook-0, protocol: webhook, url: "{board.url}", secrets: [{secret}]}}'
    (tmp_path / "peers.yaml").write_text(f"peers: []\nchannels:\n  - {channel}\n")
    environment = os.environ | {
        "VIGIL_DATA": str(tmp_path),
        "VIGIL_DATABASE_URL": store.url,
        "VIGIL_STALLED_S": "3",
    }
    command = [sys.executable, "-m", "service.cli", "worker", "--pool", "message"]
    board.answers = [HANG]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    worker = start()
    try:
        deadline = time.monotonic() + 90
        while not (row_ids := tell_when_known(store, "a")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert board.asked.acquire(timeout=60)
        worker.kill()
        worker.wait()
        board.go_on.set()
        worker = start()
        assert board.asked.acquire(timeout=90)
        deadline = time.monotonic() + 60
        while row(store, row_ids[0]).status is MessageStatus.WAITING and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        worker.kill()
        worker.wait()

    assert row(store, row_ids[0]).status is MessageStatus.SENT
    ids = [came.headers["webhook-id"] for came in board.received]
    assert ids == [row(store, row_ids[0]).message_id] * 2


def tell_when_known(store: Store, name: str) -> list[int]:
    """Tell of a study once a worker has said which channels there are; empty before."""
    with store.transaction() as session:
        known = session.scalars(select(ChannelRow.name)).all()
    return tell(store, Seed(name=name)) if known else []
