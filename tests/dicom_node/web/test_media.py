import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from dicom_node.multipart import DICOM_TYPE, PartReader
from dicom_node.web.media import (
    ANYTHING,
    NotAcceptableError,
    Part,
    Range,
    accepted,
    choose,
    choose_frames,
    choose_instances,
    multipart,
)

OHIF = "multipart/related; type=application/octet-stream; transfer-syntax=*"


def test_ranges_are_read_with_and_without_quotes_liked_best_first() -> None:
    header = (
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.3; q=0.5, '
        "multipart/related;type=image/jls, */*;q=0, text/html;q=nonsense"
    )
    assert accepted(header) == (
        Range(kind="image/jls", is_multipart=True),
        Range(kind=DICOM_TYPE, is_multipart=True, syntax="1.2.3", quality=0.5),
    )


def test_a_header_that_says_nothing_takes_anything_and_nonsense_takes_nothing() -> None:
    assert accepted(" ") == (Range(kind=ANYTHING),)
    assert accepted(";;;") == ()
    assert len(accepted("a/b," * 10_000)) == 50


def test_of_what_is_offered_the_caller_chooses() -> None:
    offers = ("image/jpeg", "image/png")
    assert choose(accepted("image/*"), offers) == "image/jpeg"
    assert choose(accepted("image/png, image/jpeg;q=0.1"), offers) == "image/png"
    with pytest.raises(NotAcceptableError):
        choose(accepted("multipart/related; type=image/png"), offers)


@pytest.mark.parametrize(
    ("header", "is_decoded"),
    [
        (OHIF, False),
        ("*/*", False),
        ("multipart/related; type=image/jls", False),
        (f"multipart/related; type=application/octet-stream; transfer-syntax={JPEGLSLossless}", False),
        ("multipart/related; type=application/octet-stream", True),
        (f"multipart/related; type=application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}", True),
    ],
)
def test_compressed_frames_are_decoded_only_where_that_is_asked(header: str, is_decoded: bool) -> None:
    assert choose_frames(accepted(header), JPEGLSLossless, is_single=False)[1] is is_decoded


def test_frames_of_another_compression_are_not_acceptable() -> None:
    with pytest.raises(NotAcceptableError):
        choose_frames(accepted("multipart/related; type=image/jp2"), JPEGLSLossless, is_single=True)


def test_instances_of_several_transfer_syntaxes_are_sent_only_to_who_takes_all() -> None:
    both = (JPEGLSLossless, ExplicitVRLittleEndian)
    one = f'multipart/related; type="application/dicom"; transfer-syntax={JPEGLSLossless}'
    assert choose_instances(accepted(one), [JPEGLSLossless], is_single=False).is_multipart
    with pytest.raises(NotAcceptableError):
        choose_instances(accepted(one), both, is_single=False)
    with pytest.raises(NotAcceptableError):
        choose_instances(accepted(DICOM_TYPE), [JPEGLSLossless], is_single=False)


def test_a_message_is_read_back_part_by_part() -> None:
    sent = multipart(
        [Part(kind="a/b", content=[b"one", b"1"], location="/x"), Part(kind="a/b", content=[])], "edge"
    )
    events = list(PartReader(b"edge").feed(b"".join(sent)))
    assert [event for event in events if event[0] == "begin"] == [("begin", "a/b")] * 2
    assert b"".join(bytes(value) for kind, value in events if kind == "data") == b"one1"
