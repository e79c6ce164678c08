import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fhir.resources.R4B.bundle import Bundle

from dicom_node.channel import FhirChannel, OAuth
from dicom_node.errors import DestinationBusyError, DestinationRefusedError
from dicom_node.peer import Timeouts
from service.messages.fhir.channel import FhirSender
from tests.receivers import HANG, RESET, HttpReceiver
from tests.service.messages.conftest import PATIENT, message

TO_SEND = message(identity=PATIENT)


def sender(receiver: HttpReceiver, **more: object) -> FhirSender:
    return FhirSender(
        FhirChannel.model_validate(
            {
                "name": "ehr",
                "protocol": "fhir",
                "url": f"{receiver.url}/r4/",
                "timeouts": Timeouts(answer_s=30.0),
            }
            | more
        )
    )


def test_what_arrives_is_one_valid_transaction(receiver: HttpReceiver) -> None:
    receiver.answers = [200]

    assert sender(receiver).send(TO_SEND) == "200"

    (came,) = receiver.received
    assert (came.method, came.path, came.headers["content-type"]) == ("POST", "/r4", "application/fhir+json")
    assert Bundle.model_validate_json(came.body).type == "transaction"
    assert "Doe, Jane" in came.body.decode()


def test_a_name_full_of_markup_is_text(receiver: HttpReceiver) -> None:
    name = '<b class>"},{"Doe\\'

    sender(receiver).send(replace(TO_SEND, identity=replace(PATIENT, name=name)))

    bundle = json.loads(receiver.received[0].body)
    assert bundle["entry"][0]["resource"]["subject"]["display"] == name


def test_a_file_lets_us_in(receiver: HttpReceiver, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer of-the-file\n")

    sender(receiver, authorization=tmp_path / "token").send(TO_SEND)

    assert receiver.received[0].headers["authorization"] == "Bearer of-the-file"


@pytest.fixture
def oauth(receiver: HttpReceiver, tmp_path: Path) -> OAuth:
    (tmp_path / "secret").write_text("s3:cret\n")
    return OAuth(
        token_url=f"{receiver.url}/token",
        client_id="vigil",
        client_secret=tmp_path / "secret",
        scope="system/*.write",
    )


def test_a_server_of_tokens_lets_us_in(receiver: HttpReceiver, oauth: OAuth) -> None:
    receiver.answers, receiver.bodies = [200], [b'{"access_token": "fresh", "token_type": "Bearer"}']

    sender(receiver, oauth=oauth).send(TO_SEND)

    asked, came = receiver.received
    assert asked.path == "/token"
    assert asked.headers["authorization"] == f"Basic {base64.b64encode(b'vigil:s3%3Acret').decode()}"
    assert asked.body == b"grant_type=client_credentials&scope=system%2F%2A.write"
    assert came.headers["authorization"] == "Bearer fresh"


@pytest.mark.parametrize(
    ("answer", "body"), [(400, b"{}"), (500, b""), (200, b"[]"), (200, b'{"access_token": ""}'), (200, b"<")]
)
def test_without_a_token_nothing_is_sent(
    receiver: HttpReceiver, oauth: OAuth, answer: int, body: bytes
) -> None:
    receiver.answers, receiver.bodies = [answer], [body]

    with pytest.raises(DestinationBusyError):
        sender(receiver, oauth=oauth).send(TO_SEND)

    assert [came.path for came in receiver.received] == ["/token"]


@pytest.mark.parametrize("answer", [409, 429, 500, 503, 401, RESET, HANG])
def test_a_server_in_trouble_is_asked_again(receiver: HttpReceiver, answer: int) -> None:
    receiver.answers = [answer]

    with pytest.raises(DestinationBusyError):
        sender(receiver, timeouts=Timeouts(answer_s=0.5)).send(TO_SEND)


@pytest.mark.parametrize("answer", [400, 404, 412, 422, 302])
def test_a_refusal_is_left_to_a_person(receiver: HttpReceiver, answer: int) -> None:
    receiver.answers = [answer]

    with pytest.raises(DestinationRefusedError):
        sender(receiver).send(TO_SEND)


@pytest.mark.parametrize("identity", [None, replace(PATIENT, study_uid="")])
def test_a_study_nobody_could_name_is_not_sent(receiver: HttpReceiver, identity: object) -> None:
    with pytest.raises(DestinationRefusedError, match="which study"):
        sender(receiver).send(replace(TO_SEND, identity=identity))  # type: ignore[arg-type]

    assert receiver.received == []
