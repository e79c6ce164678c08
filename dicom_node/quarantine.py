"""Names of files in quarantine.

::

    <hash>.<reason>.dcm
    <hash>.uid_conflict.<study key>.<file name>     a second data set under the UID of an instance

So the quarantine itself says, durably and before the sender hears success, which instance of which study has
come with two contents.
"""

import os
import re
from enum import StrEnum
from pathlib import Path

from dicom_node.identity import STUDY_KEY


class Quarantined(StrEnum):
    """Why a data set is in quarantine; part of its file's name."""

    UNREADABLE = "unreadable"  # no keys can be read in it
    MISMATCH = "mismatch"  # its keys are not those it was announced with
    UID_CONFLICT = "uid_conflict"  # another data set holds its UID


_CONFLICT = re.compile(rf"[0-9a-f]+\.{Quarantined.UID_CONFLICT}\.({STUDY_KEY.pattern})\.([0-9a-f]+\.dcm)")


def conflict(key: str, file_name: str) -> str:
    """Reason of a second data set under the UID of an instance.

    Parameters
    ----------
    key : str
        Of the study.
    file_name : str
        Of the first data set.
    """
    return f"{Quarantined.UID_CONFLICT}.{key}.{file_name.removesuffix('.dcm')}"


def conflicts(folder: Path) -> frozenset[tuple[str, str]]:
    """Study key and file name of every instance that has a second data set in quarantine."""
    with os.scandir(folder) as entries:
        found = [_CONFLICT.fullmatch(entry.name) for entry in entries]
    return frozenset((match[1], match[2]) for match in found if match)
