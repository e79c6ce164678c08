import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import DestinationBusyError
from service.messages.hl7v2.acknowledgement import Acknowledgement, read_acknowledgement

HEADER = b"MSH|^~\\&|RIS|HOSPITAL|VIGIL|RAD|20260304||ACK^R01|1|P|2.5.1\r"


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (b"MSA|AA|C-1\r", Acknowledgement(code="AA", control_id="C-1", error="")),
        (
            b"MSA|AE|C-1|words\rERR|||207^Internal^HL70357|E\r",
            Acknowledgement(code="AE", control_id="C-1", error="207"),
        ),
        (b"MSA|AR\r", Acknowledgement(code="AR", control_id="", error="")),
        (b"", Acknowledgement(code="", control_id="", error="")),
    ],
)
def test_an_answer_is_read_as_far_as_it_says_something(rest: bytes, expected: Acknowledgement) -> None:
    assert read_acknowledgement(HEADER + rest) == expected


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: HEADER + rest))
def test_whatever_a_receiver_answers_is_an_answer_or_none(frame: bytes) -> None:
    with contextlib.suppress(DestinationBusyError):
        assert isinstance(read_acknowledgement(frame).code, str)
