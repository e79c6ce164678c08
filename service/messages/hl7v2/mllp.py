"""Frames of the minimal lower layer protocol (HL7 v2.5.1 appendix C), bounded in bytes and in time."""

import time
from typing import Protocol

START, END, AFTER = b"\x0b", b"\x1c", b"\r"
LONGEST_FRAME = 256 * 1024  # bytes; an order has one or two thousand
PIECE = 4096


class FrameError(Exception):
    """What came is no frame, is too long or took too long. The connection is closed."""


class Source(Protocol):
    """What bytes come from: a socket, plain or TLS."""

    def recv(self, size: int, /) -> bytes:
        """Return what has come, at most `size` bytes; empty at the end."""

    def settimeout(self, seconds: float | None, /) -> None:
        """Wait so long for it."""


def framed(message: bytes) -> bytes:
    """Frame of a message."""
    return START + message + END + AFTER


class Frames:
    """Frames out of one connection, one after the other.

    Parameters
    ----------
    source : Source
    longest : int
        Most bytes of one message.
    """

    def __init__(self, source: Source, *, longest: int = LONGEST_FRAME) -> None:
        self._source = source
        self._longest = longest
        self._rest = b""

    def next(self, *, idle_s: float, whole_s: float) -> bytes | None:
        """Return the next message; None where the other end has closed between two.

        Parameters
        ----------
        idle_s : float
            Longest wait for its first byte.
        whole_s : float
            Longest time from its first byte to its end, however slowly bytes drip.

        Raises
        ------
        FrameError
            If none comes, or what comes is none.
        """
        content = bytearray(self._rest)
        deadline = time.monotonic() + (whole_s if content else idle_s)
        has_begun = bool(content)
        while (end := content.find(END + AFTER)) < 0:
            if content and not content.startswith(START):
                raise FrameError("not a frame")
            if len(content) > self._longest:
                raise FrameError("frame too long")
            piece = self._receive(deadline - time.monotonic())
            if not piece:
                if content:
                    raise FrameError("frame cut off")
                return None
            if not has_begun:
                has_begun, deadline = True, time.monotonic() + whole_s
            content += piece
        if not content.startswith(START) or end > self._longest:
            raise FrameError("not a frame")
        self._rest = bytes(content[end + 2 :])
        return bytes(content[1:end])

    def _receive(self, left_s: float) -> bytes:
        if left_s <= 0:
            raise FrameError("no end of a frame in time")
        try:
            self._source.settimeout(left_s)
            return self._source.recv(PIECE)
        except TimeoutError:
            raise FrameError("no end of a frame in time") from None
        except ConnectionError:
            raise FrameError("connection lost") from None
