import base64
import hashlib
import hmac
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.channel import Event, WebhookChannel
from dicom_node.errors import DestinationBusyError, DestinationRefusedError
from dicom_node.peer import Timeouts
from service.messages.webhook import Webhook, body_of, sign
from service.store.reports import DriftAlarm
from service.study import DISCLAIMER, State
from tests.receivers import HANG, RESET, HttpReceiver
from tests.service.messages.conftest import RUN_AT, SECRET, message, report


def hook(receiver: HttpReceiver, *secrets: Path, answer_s: float = 30.0) -> Webhook:
    return Webhook(
        WebhookChannel(
            name="board",
            protocol="webhook",
            url=f"{receiver.url}/in",
            secrets=secrets,
            timeouts=Timeouts(answer_s=answer_s),
        )
    )


def test_the_signature_is_the_one_of_the_specification() -> None:
    """Example of the specification's reference libraries."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'

    signature = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_arrives_is_signed_over_id_time_and_body(receiver: HttpReceiver, secret_file: Path) -> None:
    assert hook(receiver, secret_file).send(message()) == "204"

    (came,) = receiver.received
    signed = f"{came.headers['webhook-id']}.{came.headers['webhook-timestamp']}.".encode() + came.body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert came.headers["webhook-signature"] == f"v1,{expected}"
    assert came.headers["webhook-id"] == message().message_id
    assert abs(int(came.headers["webhook-timestamp"]) - time.time()) < 60
    assert (came.method, came.path, came.headers["content-type"]) == ("POST", "/in", "application/json")


def test_a_result_that_arrives_after_more_images_came_brings_no_number() -> None:
    late = replace(message(Event.DELIVERED).told.report, is_current=False)
    told = replace(message(Event.DELIVERED), told=replace(message().told, report=late))

    for said, is_told in ((body_of(message(Event.DELIVERED))["data"], True), (body_of(told)["data"], False)):
        assert (said["assessment"] is not None, said["holds"]) == (is_told, is_told)


def test_a_number_stands_beside_what_is_wrong_with_its_study() -> None:
    flagged = message(told=replace(report(), flag="patient_conflict"))

    assert body_of(flagged)["data"]["flag"] == "patient_conflict"
    assert body_of(message())["data"]["flag"] is None


def test_while_a_key_is_changed_both_sign(receiver: HttpReceiver, secret_file: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    newer.write_text(base64.b64encode(b"n" * 24).decode())

    hook(receiver, newer, secret_file).send(message())

    signatures = receiver.received[0].headers["webhook-signature"].split(" ")
    assert len(signatures) == len(set(signatures)) == 2
    assert all(signature.startswith("v1,") for signature in signatures)


def test_a_number_comes_with_what_it_means(receiver: HttpReceiver, secret_file: Path) -> None:
    hook(receiver, secret_file).send(message())

    body = json.loads(receiver.received[0].body)
    assert body["type"] == "study.scored"
    assert body["data"]["assessment"]["percentile"] == report().percentile
    assert body["data"]["assessment"]["reference_group"] == "T1 brain, adults"
    assert body["data"]["assessment"]["model"]["sha256"] == "a1" * 32
    assert body["data"]["disclaimer"] == DISCLAIMER
    assert body["data"]["path"] == f"/studies/{report().study_key}"


@pytest.mark.parametrize(
    ("event", "state"), [(Event.NOT_ASSESSABLE, State.NOT_ASSESSABLE), (Event.FAILED, State.FAILED)]
)
def test_what_was_not_judged_has_a_reason_and_no_number(
    receiver: HttpReceiver, secret_file: Path, event: Event, state: State
) -> None:
    hook(receiver, secret_file).send(message(event, report(state, reason="localiser")))

    data = json.loads(receiver.received[0].body)["data"]
    assert (data["state"], data["reason"], data["assessment"]) == (state.value, "localiser", None)


@pytest.mark.parametrize("answer", [500, 503, 429, 408, 401, RESET, HANG])
def test_a_receiver_in_trouble_is_asked_again(receiver: HttpReceiver, secret_file: Path, answer: int) -> None:
    receiver.answers = [answer]

    with pytest.raises(DestinationBusyError):
        hook(receiver, secret_file, answer_s=0.3).send(message())


@pytest.mark.parametrize("answer", [400, 404, 409, 410, 422])
def test_a_refusal_is_left_to_a_person(receiver: HttpReceiver, secret_file: Path, answer: int) -> None:
    receiver.answers = [answer]

    with pytest.raises(DestinationRefusedError):
        hook(receiver, secret_file).send(message())


def test_a_redirect_is_not_followed(receiver: HttpReceiver, secret_file: Path) -> None:
    receiver.answers, receiver.answer_headers = [307], {"Location": f"{receiver.url}/elsewhere"}

    with pytest.raises(DestinationRefusedError, match="307"):
        hook(receiver, secret_file).send(message())

    assert [came.path for came in receiver.received] == ["/in"]


@pytest.mark.parametrize("content", ["", "whsec_c2hvcnQ=", "whsec_***", None])
def test_without_a_good_secret_nothing_is_sent(
    receiver: HttpReceiver, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)

    with pytest.raises(DestinationBusyError, match="secret"):
        hook(receiver, path).send(message())

    assert receiver.received == []


ALARM = DriftAlarm(
    watch_id=3,
    group="MR, BRAIN, T1, MAKER, ONE",
    group_key="{}",
    model_sha256="a1" * 32,
    calibration_sha256="c7" * 32,
    alarms=("noise", "score"),
    studies=140,
    studies_since_change=9,
    happened_at=RUN_AT,
)


def test_a_scanner_that_has_changed_is_told_without_any_study() -> None:
    told = replace(message(Event.DRIFTED), told=DriftAlarm.of(ALARM.content()))

    body = body_of(told)

    assert (body["type"], body["timestamp"]) == ("scanner.drifted", RUN_AT.isoformat())
    assert body["data"] == {
        "scanner": ALARM.group,
        "path": "/scanners",
        "sequence": told.sequence,
        "moved": ["noise", "score"],
        "studies": 140,
        "studies_since_change": 9,
        "model_sha256": ALARM.model_sha256,
        "calibration_sha256": ALARM.calibration_sha256,
        "disclaimer": DISCLAIMER,
    }


def test_a_protocol_of_studies_refuses_what_is_about_none() -> None:
    with pytest.raises(DestinationRefusedError):
        replace(message(Event.DRIFTED), told=ALARM).report  # noqa: B018 - it is what raises
