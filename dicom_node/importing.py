"""Instances that lie in a folder of this machine, on their way into the spool.

Their data sets are kept byte for byte; the file meta information before them is ours, as it is for what comes
by C-STORE. The folder is only read.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dicom_node.contexts import TRANSFER_SYNTAXES, storage_classes
from dicom_node.elements import read_file_meta
from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import instance_file_name
from dicom_node.keys import read_mark
from dicom_node.part10 import file_head
from dicom_node.spool import CHUNK, Spool, StoreOutcome

TOGETHER = 64  # drafts that are open at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Importable:
    """One file of the folder.

    Attributes
    ----------
    path : Path
    study_uid, sop_instance_uid, sop_class_uid, syntax : str
    is_own : bool
        One of Vigil's results.
    """

    path: Path
    study_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    syntax: str
    is_own: bool


def look(path: Path) -> Importable:
    """Read what a file is.

    Raises
    ------
    UnreadableInstanceError
        If it is no Part 10 file with an instance that can be kept.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        mark = read_mark(file)
    if mark.keys.sop_class_uid not in storage_classes() or mark.syntax not in TRANSFER_SYNTAXES:
        raise UnreadableInstanceError("neither its SOP class nor its transfer syntax is one that we keep")
    return Importable(
        path=path,
        study_uid=mark.keys.study_uid,
        sop_instance_uid=mark.keys.sop_instance_uid,
        sop_class_uid=mark.keys.sop_class_uid,
        syntax=mark.syntax,
        is_own=mark.is_own,
    )


def copy_all(spool: Spool, files: Sequence[Importable], *, sender: str) -> list[StoreOutcome]:
    """Copy files into the spool; all are durable on return.

    Parameters
    ----------
    sender : str
        Stands as their Source AE Title, up to 16 characters.

    Raises
    ------
    SpoolFullError
        If the disk has no room. What was copied before stays.
    UnreadableInstanceError
        If a file is no longer what it was.
    OSError
        If a file cannot be read.
    """
    outcomes: list[StoreOutcome] = []
    for start in range(0, len(files), TOGETHER):
        with ExitStack() as stack:
            drafts = []
            for one in files[start : start + TOGETHER]:
                draft = stack.enter_context(spool.draft())
                with one.path.open("rb") as file:
                    for part in _parts(file, one, sender):
                        draft.write(part)
                drafts.append((draft, spool.key_of(one.study_uid), instance_file_name(one.sop_instance_uid)))
            outcomes += spool.place_all(drafts)
    return outcomes


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files at any depth, folder by folder in the order of their names; links are not followed."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(Path(entry.path))


def _parts(file: BinaryIO, one: Importable, sender: str) -> Iterator[bytes]:
    read_file_meta(file)
    yield file_head(
        sop_class=one.sop_class_uid, sop_instance=one.sop_instance_uid, syntax=one.syntax, sender=sender
    )
    while chunk := file.read(CHUNK):
        yield chunk
