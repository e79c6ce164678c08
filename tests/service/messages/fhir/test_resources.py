"""Every resource is what the standard's own models take, and says what it must."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from dicom_node.channel import Event
from dicom_node.results import codes
from service import atna
from service.access import Identity
from service.messages.fhir.audit_event import audit_event
from service.messages.fhir.bundle import searchset, transaction
from service.messages.fhir.capability import capability_statement
from service.messages.fhir.diagnostic_report import diagnostic_report
from service.messages.fhir.imaging_study import imaging_study
from service.messages.fhir.observation import observation
from service.messages.fhir.provenance import provenance
from service.messages.fhir.task import priority, task
from service.store.reports import KnownStudy, Report
from service.store.trail import Told
from service.study import CONTENT_CONFLICT, Priority, State
from service.why import FLAGS
from tests.service.messages.conftest import PATIENT, message, report
from tests.whom import told_of

ENTRY = Told(
    number=5,
    at=datetime(2026, 3, 4, tzinfo=UTC),
    actor="reader:ada",
    action="study.failed",
    study_key="a" * 20,
    detail={},
    previous="0" * 64,
    hash="f" * 64,
)
OUTCOMES = {
    "scored": report(),
    "not_assessable": report(State.NOT_ASSESSABLE, reason="localiser"),
    "failed": report(State.FAILED, reason="attempts_used_up"),
    "queued": report(State.QUEUED),
}
BUILDERS: dict[str, Callable[[Report, Identity | None], dict[str, Any]]] = {
    "ImagingStudy": lambda made, who: imaging_study(
        KnownStudy(key=made.study_key, modality="MR", report=made, instances=3), who
    ),
    "Observation": observation,
    "DiagnosticReport": diagnostic_report,
    "Task": task,
    "Provenance": lambda made, _: provenance(made),
}


def checked(resource: dict[str, Any]) -> dict[str, Any]:
    """Return a resource that the standard's model takes; every field is known to it."""
    kind = get_fhir_model_class(resource["resourceType"])
    kind.model_validate_json(json.dumps(resource))
    return resource


@pytest.mark.parametrize("outcome", list(OUTCOMES))
@pytest.mark.parametrize("identity", [PATIENT, None, Identity()])
@pytest.mark.parametrize("kind", list(BUILDERS))
def test_a_resource_is_what_the_standard_says(kind: str, identity: Identity | None, outcome: str) -> None:
    resource = checked(BUILDERS[kind](OUTCOMES[outcome], identity))

    assert resource["resourceType"] == kind
    assert resource["id"] == report().study_key


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_a_masked_resource_names_nobody(kind: str) -> None:
    text = json.dumps(BUILDERS[kind](report(), None))

    assert told_of(("Doe", "Jane", "P-17", "ACC-1", PATIENT.study_uid, "1971"), text) == []


def test_a_score_comes_with_what_it_means() -> None:
    found = checked(observation(report(percentile=0.9), PATIENT))

    assert found["status"] == "preliminary"
    assert (found["valueQuantity"]["value"], found["valueQuantity"]["code"]) == (0.9, "%")
    assert found["component"][2]["valueString"] == "T1 brain, adults, n=120"
    assert found["contained"][0]["identifier"][0]["value"] == "a1" * 32
    assert found["note"] == [{"text": codes.DISCLAIMER}]
    assert found["subject"]["identifier"]["value"] == "P-17"


@pytest.mark.parametrize(
    ("outcome", "why"), [("not_assessable", "not-performed"), ("failed", "error"), ("queued", "temp-unknown")]
)
def test_what_was_not_judged_has_a_reason_and_no_number(outcome: str, why: str) -> None:
    found = checked(observation(OUTCOMES[outcome], PATIENT))

    assert found["dataAbsentReason"]["coding"][0]["code"] == why
    assert not {"valueQuantity", "component"} & set(found)
    assert "valueQuantity" not in json.dumps(found)


def test_the_coded_reason_stands_beside_the_standards_own() -> None:
    found = observation(OUTCOMES["not_assessable"], PATIENT)

    assert found["dataAbsentReason"]["coding"][1]["code"] == "NA-06"


def test_what_more_images_made_void_has_no_number() -> None:
    found = checked(observation(report(), PATIENT, holds=False))
    document = checked(diagnostic_report(report(), PATIENT, holds=False))

    assert "valueQuantity" not in json.dumps(found)
    assert found["dataAbsentReason"]["coding"][0]["code"] == "temp-unknown"
    assert "0.9" not in document["conclusion"]


@pytest.mark.parametrize("outcome", list(OUTCOMES))
def test_a_report_is_never_final(outcome: str) -> None:
    document = diagnostic_report(OUTCOMES[outcome], PATIENT)

    assert document["status"] == "preliminary"
    assert "normal." in document["conclusion"]  # what it does not mean


def test_stat_is_said_only_of_what_was_ordered_so() -> None:
    said = [priority(level) for level in (*Priority, Priority.STAT - 1)]

    assert said == ["routine", "routine", "urgent", "stat", "urgent"]


def test_an_audit_row_keeps_its_place_in_the_chain() -> None:
    event = checked(audit_event(ENTRY))

    details = {detail["type"]: detail["valueString"] for detail in event["entity"][0]["detail"]}
    assert details == {"previous": ENTRY.previous, "hash": ENTRY.hash}


@pytest.mark.parametrize("action", ["study.failed", "list.queried", "identity.revealed", "message.dead"])
def test_an_audit_row_is_the_same_event_here_and_at_the_audit_repository(action: str) -> None:
    event = checked(audit_event(replace(ENTRY, action=action)))

    told = atna.event_of(action)
    assert (event["type"]["code"], event["action"], event["outcome"]) == (
        told.code.value,
        told.does,
        told.outcome,
    )


def test_the_capabilities_are_what_the_standard_says() -> None:
    checked(capability_statement())


@pytest.mark.parametrize("onward", [None, "http://here/fhir/Task?_before=3"])
def test_a_page_of_a_search_says_where_the_next_one_is(onward: str | None) -> None:
    page = checked(
        searchset(
            [task(report(), None)], base="http://here/fhir", here="http://here/fhir/Task", onward=onward
        )
    )

    assert ("next" in {link["relation"] for link in page["link"]}) == (onward is not None)


def test_an_empty_page_is_a_page() -> None:
    assert "entry" not in checked(searchset([], base="http://h", here="http://h/Task", onward=None))


@pytest.mark.parametrize("event", [Event.SCORED, Event.SUPERSEDED])
def test_a_transaction_makes_the_study_once_and_replaces_what_is_said_of_it(event: Event) -> None:
    bundle = checked(transaction(message(event), PATIENT))

    requests = [entry["request"] for entry in bundle["entry"]]
    assert requests[0] == {
        "method": "POST",
        "url": "ImagingStudy",
        "ifNoneExist": f"identifier=urn:dicom:uid%7Curn:oid:{PATIENT.study_uid}",
    }
    assert {request["method"] for request in requests[1:]} == {"PUT"}
    assert [request["url"].partition("?")[0] for request in requests[1:]] == [
        "Observation",
        "DiagnosticReport",
        "Task",
    ]
    addresses = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(addresses) == 4
    report_entry = bundle["entry"][2]["resource"]
    assert report_entry["result"][0]["reference"] in addresses
    assert report_entry["imagingStudy"][0]["reference"] == bundle["entry"][0]["fullUrl"]
    assert all("id" not in entry["resource"] for entry in bundle["entry"])
    assert ("valueQuantity" in json.dumps(bundle)) == (event is Event.SCORED)


def test_the_same_message_is_the_same_bundle_at_every_attempt() -> None:
    assert transaction(message(), PATIENT) == transaction(message(), PATIENT)


def test_a_study_whose_images_contradict_each_other_is_not_shown_without_that() -> None:
    flagged = replace(report(), flag=CONTENT_CONFLICT)

    (note,) = checked(observation(flagged, PATIENT))["note"]

    assert note["text"] == f"{FLAGS[CONTENT_CONFLICT]} {codes.DISCLAIMER}"
    for made, holds in ((flagged, True), (flagged, False), (replace(OUTCOMES["failed"], flag="new"), True)):
        said = checked(diagnostic_report(made, PATIENT, holds=holds))["conclusion"]
        assert FLAGS.get(str(made.flag), "new") in said
