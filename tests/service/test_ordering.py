"""HL7 orders make studies more urgent, whether the images have come or not."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hl7
import pytest
from sqlalchemy import select, text, update
from structlog.testing import capture_logs

from dicom_node.channel import Hl7Channel, Hl7Role
from dicom_node.errors import PortInUseError
from dicom_node.peers import Peers
from service import telling
from service.messages.hl7v2.mllp import Frames, framed
from service.messages.hl7v2.order import orders_of, read_message
from service.ordering import Ordering
from service.settings import Settings
from service.store import Store, audit, awaited, identities, studies
from service.store.tables import AuditRow, AwaitedRow, StudyRow
from service.study import Priority
from tests.end_to_end.peers import free_port
from tests.phantoms import Phantom
from tests.seeds import Seed, plant, study_key
from tests.service.messages.conftest import PATIENT
from tests.service.test_intake import LATER, Site

pytestmark = pytest.mark.postgres

RIS = Hl7Channel(name="ris", protocol="hl7", roles=frozenset({Hl7Role.ORDERS}), host="127.0.0.1")
ACCESSION = PATIENT.accession_number


def order(
    priority: str = "S", *, control: str = "NW", accession: str = ACCESSION, study_uid: str = ""
) -> bytes:
    obr = "|".join(["OBR", "1", *[""] * 16, accession, *[""] * 8, f"^^^^^{priority}"])
    lines = [
        "MSH|^~\\&|RIS|HOSPITAL|VIGIL|RAD|20260304||ORM^O01^ORM_O01|C-1|P|2.5.1",
        "PID|1||P-17||Secretly^Named",
        f"ORC|{control}",
        obr,
        *([f"ZDS|{study_uid}^RIS^Application^DICOM"] if study_uid else []),
    ]
    return "".join(f"{line}\r" for line in lines).encode()


def pseudonym(text: str) -> str:
    """Mark of a text; of a planted study's UID, its key."""
    return study_key("a") if text == PATIENT.study_uid else study_key(f"mark {text}")


def ordering(store: Store, key_of: Callable[[str], str] = pseudonym) -> Ordering:
    return Ordering(store=store, key_of=key_of, sender=Peers((), (RIS,)).ordering)


def sent(taking: Ordering, frame: bytes) -> tuple[str, str]:
    """Send a message; return the answer's code and the code of its error."""
    answered = taking.answer(frame, "127.0.0.1", None)
    assert answered is not None
    message = hl7.parse(answered.decode())
    errors = [str(segment[3]).partition("^")[0] for segment in message if str(segment[0]) == "ERR"]
    return str(message.segment("MSA")[1]), "".join(errors)


def priority(store: Store, name: str = "a") -> int:
    with store.transaction() as session:
        return session.scalars(select(StudyRow.priority).where(StudyRow.key == study_key(name))).one()


@pytest.fixture
def here(store: Store) -> Store:
    """Store with the study of the order."""
    with store.transaction() as session:
        plant(session, Seed(name="a"), Seed(name="b"))
        identities.note(session, study_key("a"), PATIENT)
    return store


@pytest.mark.parametrize(
    "frame", [order(), order(accession="", study_uid=PATIENT.study_uid)], ids=["accession", "uid"]
)
def test_an_order_makes_its_study_more_urgent_and_no_other(here: Store, frame: bytes) -> None:
    assert sent(ordering(here), frame) == ("AA", "")

    assert (priority(here), priority(here, "b")) == (Priority.STAT, Priority.ROUTINE)
    with here.transaction() as session:
        newest = session.scalars(select(AuditRow).order_by(AuditRow.number.desc()).limit(1)).one()
    assert (newest.action, newest.actor, newest.study_key) == ("study.prioritised", "hl7:ris", study_key("a"))


@pytest.mark.parametrize(("stated", "control"), [("R", "NW"), ("A", "XO"), ("S", "CA")])
def test_nothing_makes_a_study_less_urgent(here: Store, stated: str, control: str) -> None:
    sent(ordering(here), order("S"))

    assert sent(ordering(here), order(stated, control=control)) == ("AA", "")

    assert priority(here) == Priority.STAT


def test_an_order_that_comes_before_its_images_counts_when_they_come(store: Store, tmp_path: Path) -> None:
    site = Site(store, tmp_path)
    assert sent(ordering(store, site.spool.key_of), order("S", accession="ACC-BEFORE")) == ("AA", "")
    datasets = Phantom().datasets()
    for dataset in datasets:
        dataset.AccessionNumber = "ACC-BEFORE"

    site.receive(datasets)
    site.intake.step(datetime.now(UTC) + LATER)

    with store.transaction() as session:
        assert session.scalars(select(StudyRow.priority)).one() == Priority.STAT


def test_an_order_that_was_cancelled_before_its_images_counts_no_more(store: Store) -> None:
    taking = ordering(store)
    sent(taking, order("S"))
    with store.transaction() as session:
        assert len(session.scalars(select(AwaitedRow)).all()) == 1

    assert sent(taking, order("S", control="CA")) == ("AA", "")

    with store.transaction() as session:
        assert session.scalars(select(AwaitedRow)).all() == []


def test_orders_of_two_studies_do_not_hold_the_trail_while_they_wait_for_one(here: Store) -> None:
    """Somebody who has one of the studies, and writes about it, must not wait for who waits for it."""
    with here.transaction() as session:
        identities.note(session, study_key("b"), replace(PATIENT, accession_number="ACC-2"))
    taking = ordering(here)
    frames = order(), order(accession="ACC-2")
    both = [one for frame in frames for one in orders_of(read_message(frame), RIS.accession_field)]
    ordered = threading.Thread(target=lambda: taking._take(both, RIS.name))
    with here.transaction() as other:
        studies.locked(other, study_key("b"))
        ordered.start()
        for _ in range(1000):
            if other.scalar(text("SELECT exists(SELECT FROM pg_locks WHERE NOT granted)")):
                break
            time.sleep(0.01)
        audit.append(other, "study.seen", actor="test", study_key=study_key("b"))
    ordered.join()

    assert (priority(here), priority(here, "b")) == (Priority.STAT, Priority.STAT)


def test_the_same_order_twice_is_one(here: Store) -> None:
    taking = ordering(here)

    assert [sent(taking, order()), sent(taking, order())] == [("AA", ""), ("AA", "")]

    with here.transaction() as session:
        actions = session.scalars(select(AuditRow.action)).all()
    assert actions.count("study.prioritised") == 1


def test_an_order_nobody_came_for_is_let_go_after_its_time(store: Store) -> None:
    taking = ordering(store)
    sent(taking, order(accession="OLD"))
    with store.transaction() as session:
        session.execute(
            update(AwaitedRow).values(noted_at=datetime.now(UTC) - awaited.KEEP - timedelta(days=1))
        )

    sent(taking, order(accession="NEW"))

    with store.transaction() as session:
        assert session.scalars(select(AwaitedRow.mark)).all() == [study_key("mark accession NEW")]


def test_neither_table_log_nor_audit_holds_what_the_order_says_of_the_patient(store: Store) -> None:
    with capture_logs() as logs:
        sent(ordering(store), order())
        sent(ordering(store), order(accession=""))

    with store.transaction() as session:
        rows = [row.mark for row in session.scalars(select(AwaitedRow))]
        trail = [f"{row.actor} {row.detail}" for row in session.scalars(select(AuditRow))]
    for secret in ("Secretly", "P-17", ACCESSION):
        assert secret not in f"{rows} {trail} {logs}"


def test_what_cannot_be_taken_is_refused_with_its_reason(store: Store) -> None:
    taking = ordering(store)

    assert sent(taking, order(accession="")) == ("AE", "101")
    assert sent(taking, b"nonsense") == ("AR", "100")


def test_while_the_database_is_away_the_sender_keeps_its_order() -> None:
    stranded = Store.open("postgresql://nobody@127.0.0.1:1/nothing")

    assert sent(ordering(stranded), order()) == ("AR", "207")


@pytest.mark.parametrize("roles", [frozenset({Hl7Role.ORDERS}), frozenset({Hl7Role.RESULTS})])
def test_only_a_channel_that_sends_orders_is_answered(store: Store, roles: frozenset[Hl7Role]) -> None:
    channel = RIS.model_copy(update={"roles": roles, "port": 1, "host": "10.0.0.0/8"})
    taking = Ordering(store=store, key_of=pseudonym, sender=Peers((), (channel,)).ordering)

    assert taking.answer(order(), "127.0.0.1", None) is None
    assert (taking.answer(order(), "10.1.2.3", None) is not None) == (Hl7Role.ORDERS in roles)


def test_the_node_takes_orders_on_the_port_it_is_given(here: Store, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, hl7_port=free_port())
    site = Site(here, tmp_path)
    peers = Peers((), (RIS,))

    with (
        telling.taking_orders(settings, here, site.spool, peers),
        socket.create_connection(("127.0.0.1", settings.hl7_port or 0), timeout=30) as connection,
    ):
        connection.sendall(framed(order()))
        answer = Frames(connection).next(idle_s=30, whole_s=30)

    assert answer is not None
    assert b"MSA|AA|C-1" in answer
    assert priority(here) == Priority.STAT


def test_a_port_in_use_is_told_with_its_setting(store: Store, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(data=tmp_path, hl7_port=taken.getsockname()[1])

        with (
            pytest.raises(PortInUseError, match="VIGIL_HL7_PORT"),
            telling.taking_orders(settings, store, Site(store, tmp_path).spool, Peers((), (RIS,))),
        ):
            pass
