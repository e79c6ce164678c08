"""Where a received instance becomes durable before its sender hears success."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from dicom_node.draft import Draft
from dicom_node.keys import Keys
from dicom_node.receiving.block import Block
from dicom_node.spool import Spool, StoreOutcome


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an instance came from: its transfer syntax and the calling AE title."""

    syntax: str
    sender: str


class Landing(Protocol):
    """First home of instances. Whatever it is, `Spool` shows them soon as files of their study."""

    @property
    def spool(self) -> Spool:
        """Home of large instances, of what is refused, and at last of everything."""

    def has_room(self) -> bool:
        """Whether another instance may be taken."""

    def keep(self, block: Block, keys: Keys, origin: Origin) -> StoreOutcome:
        """Keep a whole instance that is in memory; on return it survives kill -9 and power loss.

        Raises
        ------
        SpoolFullError
            If the disk has no room.
        """


@dataclass(frozen=True, slots=True)
class FileLanding:
    """One file an instance, at once in its study's folder. Works on every file system."""

    spool: Spool

    def has_room(self) -> bool:
        """Whether free space is above the mark."""
        return self.spool.has_room()

    def keep(self, block: Block, keys: Keys, origin: Origin) -> StoreOutcome:  # noqa: ARG002 - in the file head
        """Write, sync and link one file; as `Landing.keep`."""
        with self.spool.draft() as draft:
            draft.write_block(block)
            return self.spool.place(draft, keys.study_uid, keys.sop_instance_uid)


def set_aside(spool: Spool, block: Block, reason: str) -> None:
    """Keep in quarantine what is in memory."""
    writing: AbstractContextManager[Draft] = spool.draft()
    with writing as draft:
        draft.write_block(block)
        spool.set_aside(draft, reason)
