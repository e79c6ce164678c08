import pytest

from dicom_node.errors import MalformedMessageError
from dicom_node.multipart import LONGEST_HEADER, PartReader, boundary_of

BOUNDARY = b"edge"
PARTS = [b"first\r\n--not the edge\r\nof it", b"", b"\r\n--edg" * 5]
MESSAGE = (
    b"\r\n".join(
        b"--edge\r\nContent-Type: application/dicom; x=1\r\nContent-Length: 7\r\n\r\n" + part
        for part in PARTS
    )
    + b"\r\n--edge--\r\nan epilogue"
)


def read(message: bytes, step: int) -> list[tuple[str, bytes]]:
    """Media type and content of each part of a message that comes in pieces."""
    reader, parts, current = PartReader(BOUNDARY), [], bytearray()
    media_type = ""
    for start in range(0, len(message), step):
        for event in reader.feed(message[start : start + step]):
            if event[0] == "begin":
                media_type = str(event[1])
                current.clear()
            elif isinstance(event[1], bytes):
                current += event[1]
            else:
                parts.append((media_type, bytes(current)))
    reader.close()
    return parts


@pytest.mark.parametrize("step", [1, 2, 7, 64, 10_000])
def test_a_message_reads_the_same_however_it_is_cut(step: int) -> None:
    assert read(MESSAGE, step) == [("application/dicom", part) for part in PARTS]


def test_a_preamble_is_passed_over() -> None:
    assert read(b"hello\r\n" + MESSAGE, 5) == read(MESSAGE, 5)


@pytest.mark.parametrize(
    "message",
    [MESSAGE[:-20], b"", b"x" * (LONGEST_HEADER + 100), b"--edge\r\n" + b"h" * (LONGEST_HEADER + 100)],
)
def test_what_is_no_whole_message_is_told(message: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        read(message, 1000)


def test_no_more_than_a_delimiter_is_held_back() -> None:
    reader = PartReader(BOUNDARY)
    list(reader.feed(b"--edge\r\n\r\n"))

    passed = sum(len(event[1]) for _ in range(100) for event in reader.feed(b"d" * 1000))

    assert passed >= 100 * 1000 - len(b"\r\n--edge")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=edge', b"edge"),
        ('Multipart/Related; boundary="ed ge"; type="application/dicom"', b"ed ge"),
    ],
)
def test_the_boundary_stands_in_the_content_type(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type", ["", "application/dicom", "multipart/related", "text/plain; boundary=x"]
)
def test_another_content_type_has_no_boundary(content_type: str) -> None:
    with pytest.raises(MalformedMessageError):
        boundary_of(content_type)
