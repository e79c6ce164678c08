import json
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from service import atna
from service.store.trail import Told

SCHEMA = etree.RelaxNG(file=str(Path(__file__).parents[1] / "audit_message.rng"))
KEY = "a" * 20


def told(action: str, *, key: str | None = None, actor: str = "ada", **detail: Any) -> Told:
    at = datetime(2026, 3, 2, 8, tzinfo=UTC)
    return Told(
        number=7,
        at=at,
        actor=actor,
        action=action,
        study_key=key,
        detail=detail,
        previous="e" * 64,
        hash="f" * 64,
    )


def read(row: Told) -> Any:
    """The message, once the schema has accepted it."""
    found = etree.fromstring(atna.message(row, host="node1"))
    SCHEMA.assertValid(found)
    return found


@pytest.mark.parametrize(
    "action", [*atna.EVENTS, "study.parked", "token.made", "order.taken", "jobs.rescued"]
)
def test_every_action_makes_a_message_that_the_schema_accepts(action: str) -> None:
    found = read(told(action, key=KEY, what="worklist", filters={}, reason="away", destination="PACS"))

    ours = found.xpath("EventIdentification/EventTypeCode[@codeSystemName='99VIGIL']/@csd-code")
    assert ours == [action]


@pytest.mark.parametrize(
    ("action", "event", "does", "outcome"),
    [
        ("person.signed_in", "110114", "E", "0"),
        ("person.sign_in_failed", "110114", "E", "4"),
        ("study.viewed", "110103", "R", "0"),
        ("identity.revealed", "110103", "R", "0"),
        ("list.queried", "110112", "E", "0"),
        ("study.prioritised", "110111", "U", "0"),
        ("order.received", "110109", "U", "0"),
        ("study.deleted", "110105", "D", "0"),
        ("model.activated", "110113", "E", "0"),
        ("model.promoted", "110113", "E", "0"),
        ("model.rolled_back", "110113", "E", "0"),
        ("result.undelivered", "110104", "R", "8"),
        ("result.withdrawn", "110103", "U", "0"),
        ("result.retraction_failed", "110103", "U", "8"),
        ("service.started", "110100", "E", "0"),
    ],
)
def test_the_event_is_the_standards(action: str, event: str, does: str, outcome: str) -> None:
    found = read(told(action, key=KEY)).find("EventIdentification")

    assert found.find("EventID").get("csd-code") == event
    assert (found.get("EventActionCode"), found.get("EventOutcomeIndicator")) == (does, outcome)


def test_a_message_names_the_study_by_its_key_and_no_patient() -> None:
    objects = read(told("study.viewed", key=KEY)).findall("ParticipantObjectIdentification")

    assert [one.get("ParticipantObjectID") for one in objects] == [KEY, "7"]
    assert "1" not in {one.get("ParticipantObjectTypeCode") for one in objects}  # a person


def test_a_message_holds_what_proves_a_cut_trail() -> None:
    row = read(told("study.viewed", key=KEY)).findall("ParticipantObjectIdentification")[-1]

    assert row.findtext("ParticipantObjectName") == f"7:{'f' * 64}"


def test_what_was_asked_is_in_the_query() -> None:
    found = read(told("list.queried", what="worklist", filters={"modality": "MR"}, found=3))

    query = found.findtext(".//ParticipantObjectQuery")
    assert json.loads(b64decode(query)) == {"modality": "MR"}


def test_a_transfer_says_where_from_and_where_to() -> None:
    roles = {}
    for row in (
        told("study.received", key=KEY, sender="SCANNER"),
        told("result.delivered", key=KEY, destination="PACS"),
    ):
        for participant in read(row).findall("ActiveParticipant"):
            role = participant.find("RoleIDCode")
            if role is not None:
                roles[row.action, role.get("csd-code")] = participant.get("UserID")

    assert roles == {
        ("study.received", "110153"): "SCANNER",
        ("study.received", "110152"): "vigil",
        ("result.delivered", "110153"): "vigil",
        ("result.delivered", "110152"): "PACS",
    }


def test_where_somebody_signed_in_from_is_told() -> None:
    (actor, _) = read(told("person.signed_in", address="192.0.2.7")).findall("ActiveParticipant")

    assert (actor.get("UserID"), actor.get("NetworkAccessPointID")) == ("ada", "192.0.2.7")


@pytest.mark.parametrize("actor", ['<b>&"ada"', "a\x01da\ud800"[:3], "\x1b[31mada", "ädä 🙂"])
def test_no_name_breaks_a_message(actor: str) -> None:
    row = told("study.viewed", key=KEY, actor=actor, reason=actor, sender=actor)

    assert "ActiveParticipant" in etree.tostring(read(row)).decode()


def test_a_long_detail_is_left_in_the_trail() -> None:
    message = atna.message(told("configuration.changed", settings={"a": "x" * 10_000}), host="node1")

    assert len(message) < 8192
