import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.channel import Hl7Channel
from dicom_node.errors import DestinationBusyError, DestinationRefusedError
from dicom_node.peer import Certificate, Timeouts
from service.messages.hl7v2.channel import Hl7Sender
from tests import certificates
from tests.end_to_end.peers import free_port
from tests.receivers import Hl7Receiver, hl7_receiver
from tests.service.messages.conftest import PATIENT, message

TO_SEND = message(identity=PATIENT)


@pytest.fixture
def ris() -> Iterator[Hl7Receiver]:
    with hl7_receiver() as running:
        yield running


def sender(port: int, *, answer_s: float = 30.0, certificate: Certificate | None = None) -> Hl7Sender:
    return Hl7Sender(
        Hl7Channel(
            name="ris",
            protocol="hl7",
            host="127.0.0.1",
            port=port,
            timeouts=Timeouts(answer_s=answer_s, connect_s=30.0),
            certificate=certificate,
        )
    )


def test_a_receiver_reads_what_was_sent_and_its_word_comes_back(ris: Hl7Receiver) -> None:
    assert sender(ris.port).send(TO_SEND) == "AA"

    (came,) = ris.received
    assert str(came.segment("MSH")[10]) == TO_SEND.message_id
    assert str(came.segment("OBR")[18]) == PATIENT.accession_number


def test_letters_beyond_ascii_arrive(ris: Hl7Receiver) -> None:
    sender(ris.port).send(replace(TO_SEND, identity=replace(PATIENT, name="Müller^Jürgen=山田^太郎")))

    assert str(ris.received[0].segment("PID")[5]) == "Müller^Jürgen^^^^^L^A~山田^太郎^^^^^L^I"


@pytest.mark.parametrize("answer", ["CA", "AA"])
def test_an_accepted_message_is_over(ris: Hl7Receiver, answer: str) -> None:
    ris.answers = [answer]

    assert sender(ris.port).send(TO_SEND) == answer


@pytest.mark.parametrize(
    "answer", ["AR", "CR", "AE:207", "CE:206", "HANG_UP", "SILENCE", "JUNK", "STRANGER", "XX"]
)
def test_a_receiver_in_trouble_is_asked_again(ris: Hl7Receiver, answer: str) -> None:
    ris.answers = [answer]

    with pytest.raises(DestinationBusyError):
        sender(ris.port, answer_s=0.5).send(TO_SEND)


@pytest.mark.parametrize("answer", ["AE", "CE", "AE:204", "AR:200", "CR:203"])
def test_what_the_content_cannot_mend_is_left_to_a_person(ris: Hl7Receiver, answer: str) -> None:
    ris.answers = [answer]

    with pytest.raises(DestinationRefusedError, match=answer[:2]):
        sender(ris.port).send(TO_SEND)


def test_nobody_listening_is_a_receiver_in_trouble() -> None:
    with pytest.raises(DestinationBusyError, match="ConnectionRefusedError"):
        sender(free_port()).send(TO_SEND)


@pytest.mark.parametrize("identity", [None, replace(PATIENT, patient_id="", accession_number="")])
def test_what_nobody_could_match_is_not_sent(ris: Hl7Receiver, identity: object) -> None:
    with pytest.raises(DestinationRefusedError, match="match"):
        sender(ris.port).send(replace(TO_SEND, identity=identity))  # type: ignore[arg-type]

    assert ris.received == []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


def ours(made: certificates.Certificates, folder: Path) -> Certificate:
    both = folder / "own.pem"
    both.write_bytes(made.node.read_bytes() + made.key(made.node).read_bytes())
    return Certificate(own=both, ca=made.authority)


def test_over_tls_both_ends_show_who_they_are(made: certificates.Certificates, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.authority))
    context.load_cert_chain(made.peer, made.key(made.peer))
    context.verify_mode = ssl.CERT_REQUIRED

    with hl7_receiver(context) as secured:
        assert sender(secured.port, certificate=ours(made, tmp_path)).send(TO_SEND) == "AA"


def test_a_stranger_with_another_certificate_is_told_nothing(
    made: certificates.Certificates, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.stranger, made.key(made.stranger))

    with hl7_receiver(context) as stranger:
        with pytest.raises(DestinationBusyError, match="SSL"):
            sender(stranger.port, certificate=ours(made, tmp_path)).send(TO_SEND)
        assert stranger.received == []
