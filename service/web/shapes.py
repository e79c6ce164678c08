"""Shapes beside words: a state is told by word and shape, so that no colour has to be seen.

Outlines of an SVG path in a square of 12 by 12, filled by the even-odd rule.
"""

_DISC = "M6 .5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11Z"
_RING = f"{_DISC}M6 2a4 4 0 1 0 0 8 4 4 0 0 0 0-8Z"
_TRIANGLE = "M6 .5 11.8 11.5H.2Z"
_CROSS = "M3.4 2.3 2.3 3.4 4.9 6 2.3 8.6 3.4 9.7 6 7.1 8.6 9.7 9.7 8.6 7.1 6 9.7 3.4 8.6 2.3 6 4.9Z"
_EYE = "M6 2.5C9 2.5 11 4.5 12 6 11 7.5 9 9.5 6 9.5S1 7.5 0 6C1 4.5 3 2.5 6 2.5Z"

SHAPES: dict[str, str] = {
    # priorities
    "stat": f"{_TRIANGLE}M5.3 4.2H6.7V7.8H5.3ZM5.3 8.6H6.7V10H5.3Z",
    "urgent": f"{_TRIANGLE}M6 3.6 2.7 10H9.3Z",
    "routine": _RING,
    "screening": "M6 4a2 2 0 1 1 0 4 2 2 0 0 1 0-4Z",
    # states
    "failed": f"M.5 .5H11.5V11.5H.5Z{_CROSS}",
    "not_assessable": f"{_DISC}M2.8 5H9.2V7H2.8Z",
    "scored": _DISC,
    "queued": "M2 .5H10V2.2L7 6 10 9.8V11.5H2V9.8L5 6 2 2.2Z",
    "complete": f"{_RING}M6 2a4 4 0 0 0 0 8Z",
    "received": "M5.2 .5H6.8V5H9L6 8.4 3 5H5.2ZM1 9.8H11V11.5H1Z",
    # referrals
    "overdue": f"{_TRIANGLE}M5.3 4.2H6.7V7.8H5.3ZM5.3 8.6H6.7V10H5.3Z",
    "due": f"{_RING}M5.3 3H6.7V5.7L8.6 7.6 7.6 8.6 5.3 6.3Z",
    # the connection, and what a person did
    "live": _DISC,
    "paused": "M2.5 1H5V11H2.5ZM7 1H9.5V11H7Z",
    "lost": _CROSS,
    "seen": "M.6 6.4 2 5 4.6 7.6 10 2 11.4 3.4 4.6 10.4Z",
    "reveal": f"{_EYE}M6 4a2 2 0 1 0 0 4 2 2 0 0 0 0-4Z",
}
