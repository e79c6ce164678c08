import contextlib

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.messages.hl7v2.order import (
    MOST_ORDERS,
    Envelope,
    Order,
    OrderError,
    answer_to_message,
    envelope_of,
    orders_of,
    read_message,
)
from service.study import Priority

HEADER = "MSH|^~\\&|RIS|HOSPITAL|VIGIL|RAD|20260304||{kind}|CTRL-1|P|2.5.1"
PATIENT = "PID|1||P-17||Doe^Jane"


def message(*segments: str, kind: str = "ORM^O01^ORM_O01") -> bytes:
    return "".join(f"{segment}\r" for segment in (HEADER.format(kind=kind), PATIENT, *segments)).encode()


def orders(*segments: str, kind: str = "ORM^O01^ORM_O01", field: int = 18) -> list[Order]:
    return orders_of(read_message(message(*segments, kind=kind)), field)


def obr(**fields: str) -> str:
    """OBR with fields by number: ``f18="ACC-1"``."""
    values = {int(name[1:]): value for name, value in fields.items()}
    return "|".join(["OBR", *(values.get(number, "") for number in range(1, 28))])


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        (["ORC|NW", obr(f18="ACC-1", f27="^^^^^S")], Priority.STAT),
        (["ORC|NW", obr(f18="ACC-1", f27="^^^^^A")], Priority.URGENT),
        (["ORC|NW", obr(f18="ACC-1", f27="^^^^^R")], Priority.ROUTINE),
        (["ORC|NW|||||||^^^^^S", obr(f18="ACC-1")], Priority.ROUTINE),  # ORC-8 is no priority
        (["ORC|NW||||||^^^^^S", obr(f18="ACC-1")], Priority.STAT),
        (["ORC|NW", "TQ1|1||||||||S", obr(f18="ACC-1")], Priority.STAT),
        (["ORC|NW", obr(f5="stat", f18="ACC-1")], Priority.STAT),
        (["ORC|NW", obr(f5="ASAP", f18="ACC-1", f27="^^^^^S")], Priority.STAT),  # the most urgent counts
        ([obr(f18="ACC-1")], Priority.ROUTINE),
    ],
)
def test_the_priority_is_read_wherever_it_may_stand(segments: list[str], expected: Priority) -> None:
    (order,) = orders(*segments)

    assert (order.priority, order.accession_number) == (expected, "ACC-1")


def test_an_imaging_order_names_its_study() -> None:
    (order,) = orders(
        "ORC|NW", "TQ1|1||||||||S", obr(f3="x"), "IPC|ACC-9^RIS|RP|1.2.840.99.1|SPS", kind="OMI^O23^OMI_O23"
    )

    assert (order.accession_number, order.study_uid) == ("ACC-9", "1.2.840.99.1")


def test_a_site_says_in_which_field_its_accession_number_stands() -> None:
    (order,) = orders("ORC|NW", obr(f3="ACC-3^RIS", f18="no", f27="^^^^^S"), field=3)

    assert order.accession_number == "ACC-3"


def test_one_message_may_hold_several_orders() -> None:
    found = orders("ORC|NW", obr(f18="A", f27="^^^^^S"), "ORC|CA", obr(f18="B"), obr(f18="C", f27="^^^^^A"))

    assert [(order.accession_number, order.is_cancelled) for order in found] == [
        ("A", False),
        ("B", True),
        ("C", False),
    ]


def test_escapes_are_undone() -> None:
    (order,) = orders("ORC|NW", obr(f18="A\\T\\B\\F\\1"))

    assert order.accession_number == "A&B|1"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"A\X42\C", "ABC"),
        (r"A\.sp999999999999\B", "AB"),  # by its word a thousand gigabytes
        (r"A\XZZ\B\\C\C2842\D\Zq\E", "ABCDE"),
        ("A\\B", "A\\B"),
    ],
)
def test_an_escape_neither_grows_nor_is_quoted_in_the_log(
    written: str, read: str, caplog: pytest.LogCaptureFixture
) -> None:
    (order,) = orders("ORC|NW", obr(f18=written))

    assert order.accession_number == read
    assert not caplog.records


@pytest.mark.parametrize(
    ("frame", "code", "error"),
    [
        (b"", "AR", "100"),
        (b"GET / HTTP/1.1\r\n\r\n", "AR", "100"),
        (b"MSH", "AR", "100"),
        (b"MSH|$~\\&|RIS", "AR", "100"),
        (message("ORC|NW", obr(f18="A"), kind="ADT^A01"), "AR", "200"),
        (message(), "AE", "100"),
        (message("ORC|NW", obr(f3="A")), "AE", "101"),
        (message("ORC|NW", obr(f18="A" * 65)), "AE", "103"),
        (message("ORC|NW", obr(f18="A\0B")), "AE", "103"),
        (message("ORC|NW", obr(f18=r"A\X00\B")), "AE", "103"),
        (message("ORC|NW", obr(), "ZDS|not a uid"), "AE", "103"),
        (message(*["ORC|NW", obr(f18="A")] * (MOST_ORDERS + 1)), "AE", "103"),
    ],
)
def test_a_message_that_cannot_be_taken_says_why(frame: bytes, code: str, error: str) -> None:
    with pytest.raises(OrderError) as refused:
        orders_of(read_message(frame), 18)

    assert (refused.value.code, refused.value.error) == (code, error)
    assert "Doe" not in str(refused.value)


def test_an_answer_names_the_message_it_answers() -> None:
    envelope = envelope_of(read_message(message("ORC|NW", obr(f18="A"))))

    answer = hl7.parse(answer_to_message(envelope))

    assert str(answer.segment("MSH")[9]) == "ORR^O02^ORR_O02"
    assert [str(answer.segment("MSH")[number]) for number in (5, 6)] == ["RIS", "HOSPITAL"]
    assert [str(answer.segment("MSA")[number]) for number in (1, 2)] == ["AA", "CTRL-1"]


def test_a_refusal_has_its_code_and_its_words() -> None:
    error = OrderError("AE", "101", "Something | is ^ missing.")

    answer = hl7.parse(answer_to_message(Envelope(control_id="X|1"), error=error))

    assert str(answer.segment("MSA")[1]) == "AE"
    assert answer.unescape(str(answer.segment("MSA")[2])) == "X|1"
    assert str(answer.segment("ERR")[3]) == "101^^HL70357"


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda rest: b"MSH|^~\\&|" + rest))
def test_whatever_comes_is_read_or_refused(frame: bytes) -> None:
    with contextlib.suppress(OrderError):
        message = read_message(frame)
        envelope = envelope_of(message)
        assert hl7.parse(answer_to_message(envelope)).segment("MSA")
        orders_of(message, 18)
