"""ORU^R01: what Vigil found of a study, always preliminary (HL7 v2.5.1 chapter 7.3.1).

The same message has the same bytes at every attempt. A study that was not judged has its reason, and no
number anywhere (I7).
"""

from collections.abc import Iterator

from pydicom.sr.coding import Code

from dicom_node.channel import Event, Hl7Channel
from dicom_node.results import codes
from service import __version__
from service.access import Identity
from service.messages import concepts
from service.messages.hl7v2 import text
from service.messages.message import Message

APPLICATION = "VIGIL"
PRELIMINARY = "P"  # tables 0085 and 0123: nothing a machine says is final
STUDY_UID = Code("113014", "DCM", "DICOM Study")


def observation(message: Message, identity: Identity, channel: Hl7Channel) -> str:
    """Write the message about one happening.

    Parameters
    ----------
    message : Message
    identity : Identity
        Whom the study is about.
    channel : Hl7Channel
        Whom it is for, and where its accession number goes.
    """
    report = message.report
    segments = [
        text.header(
            {
                3: APPLICATION,
                4: text.text(channel.facility),
                5: text.text(channel.receiving_application),
                6: text.text(channel.receiving_facility),
                7: text.timestamp(message.told.happened_at),
                9: "ORU^R01^ORU_R01",
                10: message.message_id,
                11: "P",
                12: "2.5.1",
                18: text.CHARACTER_SET,
            }
        ),
        text.segment(
            "PID",
            {
                1: "1",
                3: text.patient_id(identity),
                5: text.person_name(identity.name),
                7: text.day(identity.birth_date),
                8: text.text(identity.sex),
            },
        ),
    ]
    accession = text.text(identity.accession_number)
    orders = {1: "RE", 3: text.composite(report.study_key, APPLICATION)}
    request = {
        1: "1",
        3: text.composite(report.study_key, APPLICATION),
        4: text.coded(concepts.TRIAGE),
        7: text.timestamp(report.run_at),
        22: text.timestamp(message.told.happened_at),
        24: "RAD",
        25: PRELIMINARY,
    }
    request[channel.accession_field] = accession
    if channel.accession_field in {2, 3}:  # ORC and OBR name one order
        orders[channel.accession_field] = accession
    segments += [text.segment("ORC", orders), text.segment("OBR", request)]
    values = _values(message, identity)
    segments += [_value(index, message, *value) for index, value in enumerate(values, start=1)]
    return "".join(f"{segment}\r" for segment in segments)


def _values(message: Message, identity: Identity) -> Iterator[tuple[str, Code, str, str]]:
    """Type, concept, value and unit of every observation."""
    report = message.report
    if identity.study_uid:
        yield "ST", STUDY_UID, text.text(identity.study_uid), ""
    yield "CWE", codes.ASSESSMENT, text.coded(concepts.state_of(message)), ""
    found = report.assessment
    reason = concepts.reason_code(report)
    if message.event is not Event.SUPERSEDED and found is not None:
        percent, no_units = text.coded(codes.PERCENT), text.coded(codes.NO_UNITS)
        yield "NM", codes.NORMALITY_PERCENTILE, text.number(found.percentile), percent
        yield "NM", codes.P_VALUE, text.number(found.p_value), no_units
        yield "NM", codes.ANOMALY_SCORE, text.number(found.study_score), no_units
        yield "TX", concepts.GROUP, text.text(f"{found.reference_group}, n={found.reference_n}"), ""
        yield "CWE", codes.NORMALITY, text.coded(codes.NORMALITY_UNDETERMINED), ""
    elif reason is not None:
        yield "CWE", codes.REASON, text.coded(reason), ""
    elif report.reason:
        yield "ST", concepts.FAILURE, text.text(report.reason), ""
    yield "ST", concepts.MODEL, text.text(f"{report.model_name} {report.model_version}".strip()), ""
    yield "TX", codes.NOTICE, text.text(concepts.notice(report, is_judged=found is not None)), ""


def _value(index: int, message: Message, kind: str, concept: Code, value: str, unit: str) -> str:
    report = message.report
    return text.segment(
        "OBX",
        {
            1: str(index),
            2: kind,
            3: text.coded(concept),
            5: value,
            6: unit,
            11: PRELIMINARY,
            14: text.timestamp(report.run_at),
            17: text.coded(codes.ARTIFICIAL_INTELLIGENCE),
            18: text.composite(report.model_sha256, f"{APPLICATION} {__version__}"),
        },
    )
