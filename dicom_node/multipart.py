"""multipart/related as it arrives: parts one after another, never a whole one in memory (PS3.18 8.6.1.2)."""

import re
from collections.abc import Iterator
from typing import Final, Literal

from dicom_node.errors import MalformedMessageError

DICOM_TYPE: Final = "application/dicom"
LONGEST_HEADER = 16_384  # bytes of the lines before a part, and of what may stand before the first
_BOUNDARY = re.compile(r'boundary="?([A-Za-z0-9\'()+_,\-./:=? ]{1,70})"?', re.IGNORECASE)  # RFC 2046 5.1.1
_TYPE = re.compile(rb"^content-type:\s*([^;\s]+)", re.IGNORECASE | re.MULTILINE)

PartEvent = tuple[Literal["begin", "end"], str] | tuple[Literal["data"], bytes]


def boundary_of(content_type: str) -> bytes:
    """Boundary a Content-Type header states.

    Raises
    ------
    MalformedMessageError
        If this is no multipart/related with a boundary.
    """
    found = _BOUNDARY.search(content_type)
    if not content_type.strip().lower().startswith("multipart/related") or found is None:
        raise MalformedMessageError("The message is not multipart/related with a boundary.")
    return found.group(1).strip().encode("ascii")


class PartReader:
    """Splits a stream into its parts. Holds no more than one header, or one delimiter.

    Parameters
    ----------
    boundary : bytes
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # so that the first delimiter is like all others
        self._state: Literal["preamble", "header", "body", "over"] = "preamble"

    def feed(self, chunk: bytes) -> Iterator[PartEvent]:
        """What one more piece of the stream holds.

        Parameters
        ----------
        chunk : bytes

        Yields
        ------
        tuple
            ``("begin", media type)``, ``("data", bytes)`` any number of times, ``("end", "")``, each part.

        Raises
        ------
        MalformedMessageError
            If the stream is no multipart message.
        """
        self._buffer += chunk
        progress = True
        while progress:
            if self._state == "over":
                self._buffer = b""  # an epilogue says nothing
                return
            if self._state == "header":
                progress, event = self._header()
            else:
                progress, event = self._up_to_delimiter()
            if event is not None:
                yield event
            if self._state == "header" and event is not None and event[0] == "data":
                yield ("end", "")

    def close(self) -> None:
        """Say that the stream has ended.

        Raises
        ------
        MalformedMessageError
            If it ended before its last delimiter.
        """
        if self._state != "over":
            raise MalformedMessageError("The message ends before its last part does.")

    def _header(self) -> tuple[bool, PartEvent | None]:
        """What follows a delimiter: two dashes at the end of the message, else the part's header lines."""
        if len(self._buffer) < 2:  # noqa: PLR2004 - two dashes, or the end of the line
            return False, None
        if self._buffer.startswith(b"--"):
            self._state = "over"
            return True, None
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            if len(self._buffer) > LONGEST_HEADER:
                raise MalformedMessageError("The header of a part is too long.")
            return False, None
        self._buffer, self._state = rest, "body"
        found = _TYPE.search(head)
        return True, ("begin", found.group(1).decode("ascii", "replace").lower() if found else "")

    def _up_to_delimiter(self) -> tuple[bool, PartEvent | None]:
        content, delimiter, rest = self._buffer.partition(self._delimiter)
        is_body = self._state == "body"
        if delimiter:
            self._buffer, self._state = rest, "header"
            return True, ("data", content) if is_body else None
        keep = len(self._delimiter) - 1  # it may stand across two pieces
        if not is_body and len(self._buffer) > LONGEST_HEADER:
            raise MalformedMessageError("The message does not begin with its boundary.")
        if not is_body or len(self._buffer) <= keep:
            return False, None
        content, self._buffer = self._buffer[:-keep], self._buffer[-keep:]
        return False, ("data", content)
