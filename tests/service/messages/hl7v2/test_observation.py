from dataclasses import replace

import hl7
import pytest

from dicom_node.channel import Event, Hl7Channel
from dicom_node.results import codes
from service.access import Identity
from service.messages.hl7v2.observation import observation
from service.study import PATIENT_CONFLICT, State
from service.why import FLAGS
from tests.service.messages.conftest import PATIENT, message, report

CHANNEL = Hl7Channel(
    name="ris",
    protocol="hl7",
    host="127.0.0.1",
    port=2575,
    facility="RADIOLOGY",
    receiving_application="RIS",
    receiving_facility="HOSPITAL",
)


def read(text: str) -> hl7.Message:
    """What a library nobody here wrote makes of it."""
    return hl7.parse(text)


def values(written: hl7.Message) -> dict[str, hl7.Segment]:
    """Observations by the code of their concept."""
    return {str(segment[3]).partition("^")[0]: segment for segment in written.segments("OBX")}


def test_the_header_says_what_it_is_and_in_which_characters() -> None:
    header = read(observation(message(), PATIENT, CHANNEL)).segment("MSH")

    assert str(header[9]) == "ORU^R01^ORU_R01"
    assert str(header[10]) == message().message_id
    assert [str(header[number]) for number in (3, 4, 5, 6)] == ["VIGIL", "RADIOLOGY", "RIS", "HOSPITAL"]
    assert (str(header[12]), str(header[18])) == ("2.5.1", "UNICODE UTF-8")


def test_the_patient_is_named_as_hl7_orders_a_name() -> None:
    patient = read(observation(message(), PATIENT, CHANNEL)).segment("PID")

    assert str(patient[3]) == "P-17^^^HOSPITAL^PI"
    assert str(patient[5]) == "Doe^Jane^M^Jr^Dr^^L^A"  # DICOM writes prefix before suffix
    assert (str(patient[7]), str(patient[8])) == ("19710203", "F")


def test_a_name_in_two_scripts_is_two_repetitions() -> None:
    identity = replace(PATIENT, name="Yamada^Tarou=山田^太郎=")

    patient = read(observation(message(), identity, CHANNEL)).segment("PID")

    assert str(patient[5]) == "Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I"


@pytest.mark.parametrize("field", [2, 3, 18, 19])
def test_the_accession_number_stands_where_the_site_matches_it(field: int) -> None:
    channel = CHANNEL.model_copy(update={"accession_field": field})

    written = read(observation(message(), PATIENT, channel))

    assert str(written.segment("OBR")[field]) == "ACC-1"
    if field in {2, 3}:
        assert str(written.segment("ORC")[field]) == "ACC-1"


def test_a_scored_study_has_its_number_and_what_it_means_all_preliminary() -> None:
    written = read(observation(message(), PATIENT, CHANNEL))
    found = values(written)

    assert (str(found["NORM-PCT"][2]), str(found["NORM-PCT"][5])) == ("NM", "0.9")
    assert str(found["NORM-PCT"][6]) == "%^percent^UCUM"
    assert str(found["121405"][5]) == "T1 brain, adults, n=120"
    assert str(found["MODEL"][5]) == "brain-t1 0.1.0"
    assert str(found["ASSESSMENT"][5]).startswith("SCORED^")
    assert str(found["113014"][5]) == PATIENT.study_uid
    assert "not a diagnosis" in str(found["NOTICE"][5])
    assert {str(segment[11]) for segment in written.segments("OBX")} == {"P"}
    assert str(written.segment("OBR")[25]) == "P"


def test_a_number_is_never_written_with_an_exponent() -> None:
    tiny = report(percentile=1e-05)

    found = values(read(observation(message(told=tiny), PATIENT, CHANNEL)))

    assert str(found["NORM-PCT"][5]) == "0.00001"
    assert "e" not in str(found["P-VALUE"][5])


@pytest.mark.parametrize("percentile", [0.9, 100 / 3, 1e-05])
def test_a_number_fits_into_its_field(percentile: float) -> None:
    found = values(read(observation(message(told=report(percentile=percentile)), PATIENT, CHANNEL)))

    assert len(str(found["NORM-PCT"][5])) <= 16
    assert len(str(found["P-VALUE"][5])) <= 16
    assert float(str(found["NORM-PCT"][5])) == pytest.approx(percentile, rel=1e-5)


@pytest.mark.parametrize(
    ("event", "told", "state", "reason"),
    [
        (
            Event.NOT_ASSESSABLE,
            report(State.NOT_ASSESSABLE, reason="localiser"),
            "NOT-ASSESSABLE",
            ("NA-REASON", "NA-06^Localiser images only^99VIGIL"),
        ),
        (
            Event.FAILED,
            report(State.FAILED, reason="attempts_used_up"),
            "FAILED",
            ("FAIL-REASON", "attempts_used_up"),
        ),
        (Event.SUPERSEDED, report(), "SUPERSEDED", None),
    ],
)
def test_what_holds_no_number_has_none_anywhere(
    event: Event, told: object, state: str, reason: tuple[str, str] | None
) -> None:
    written = read(observation(message(event, told), PATIENT, CHANNEL))  # type: ignore[arg-type]
    found = values(written)

    assert str(found["ASSESSMENT"][5]).startswith(f"{state}^")
    assert {str(segment[2]) for segment in written.segments("OBX")} <= {"ST", "TX", "CWE"}
    assert not {"NORM-PCT", "P-VALUE", "ANOM-SCORE"} & set(found)
    if reason is not None:
        assert str(found[reason[0]][5]) == reason[1]


HOSTILE = "A|B\rPID|9||EVIL&~\\^C\x0b\x1c\r<script>alert(1)</script>"


def test_a_name_full_of_separators_ends_no_field_and_begins_no_segment() -> None:
    identity = Identity(
        name=HOSTILE, patient_id=HOSTILE, issuer=HOSTILE, accession_number=HOSTILE, sex="F|", study_uid="1.2"
    )

    text = observation(message(), identity, CHANNEL)
    written = read(text)

    plain = observation(message(), PATIENT, CHANNEL)
    assert [segment[0] for segment in written] == [segment[0] for segment in read(plain)]
    assert len(written.segment("PID")) == 9
    assert "\x0b" not in text
    assert "\x1c" not in text
    family = hl7.parse(text).segment("PID")[5][0][0]
    readable = HOSTILE.partition("^")[0].replace("\r", " ")
    assert written.unescape(str(family)) == readable


def test_the_same_message_has_the_same_bytes_at_every_attempt() -> None:
    assert observation(message(), PATIENT, CHANNEL) == observation(message(), PATIENT, CHANNEL)


def test_a_study_whose_images_contradict_each_other_is_not_told_without_that() -> None:
    flagged = message(told=replace(report(), flag=PATIENT_CONFLICT))

    notice = str(values(read(observation(flagged, PATIENT, CHANNEL)))["NOTICE"][5])

    assert notice.startswith(FLAGS[PATIENT_CONFLICT])
    assert notice.endswith(codes.DISCLAIMER)
