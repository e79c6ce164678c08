"""What can go wrong in the service, and what to do about it.

TriageError
├── SettingsError           the operator corrects the named setting
├── DatabaseError           the operator makes the database reachable
│   ├── EmbeddedDatabaseError
│   └── SchemaError         the database and this Vigil do not belong together
│       ├── SchemaBehindError
│       └── SchemaAheadError
├── RoleFailedError         a role cannot start; its message says why
├── AccountError            an account or a token cannot be made or changed; the message says why
├── UnknownStudyError       no study has this key
├── UnknownCohortError      no cohort has this number
├── CursorError             a page of the list cannot be found; start at the first
│   ├── ForgedCursorError
│   └── StaleCursorError
├── StudyDeletedError       the study's bytes are gone; it has to be sent again
├── DeletingElsewhereError  another process deletes; try again later
├── ConflictError           somebody changed it first; look again
├── RevisionChangedError    more images came meanwhile; look again
├── ScoreChangedError       it was scored again meanwhile; look again
└── StorageError            coded: `code` becomes the reason of what ends by it
    ├── StorageAwayError    tried again; the operator makes VIGIL_STORE reachable
    ├── ObjectMissingError  the pack is made again where the received files still are
    ├── ObjectDamagedError  as above
    ├── NewerObjectError    the operator updates this machine
    ├── InstancesMissingError   the study has to be sent again
    └── ScratchFullError    tried again; the operator gives the worker more room
"""

from enum import StrEnum

from dicom_node.errors import DestinationRefusedError


class TriageError(Exception):
    """Vigil cannot go on. The message names the remedy."""


class SettingsError(TriageError):
    """A setting is wrong. The message names it and the values it may take."""


class DatabaseError(TriageError):
    """The database does not answer, or refuses us. Check that it runs, and VIGIL_DATABASE_URL or its file."""


class EmbeddedDatabaseError(DatabaseError):
    """The embedded PostgreSQL cannot run here. Set VIGIL_DATABASE_URL to a PostgreSQL of your own."""


class SchemaError(DatabaseError):
    """The database and this Vigil do not belong together. Bring both to one version."""


class SchemaBehindError(SchemaError):
    """The database is older than this Vigil. Run ``vigil db upgrade`` with this version."""


class SchemaAheadError(SchemaError):
    """The database belongs to a newer Vigil. Upgrade this one; nothing was changed."""


class RoleFailedError(TriageError):
    """A role cannot start. The message says why."""


class AccountError(TriageError):
    """The account cannot be made or changed. The message says why."""


class UnknownCohortError(TriageError):
    """No cohort has this number. List them with ``vigil cohorts list``."""


class CursorError(TriageError):
    """The page of the list cannot be found. Start at the first page."""


class ForgedCursorError(CursorError):
    """The cursor was not made here. Take one from `next` or `previous` of an answer, as it stands."""


class StaleCursorError(CursorError):
    """The cursor belongs to other filters, another order or another day. Start at the first page."""


class UnknownStudyError(TriageError):
    """No study has this key. List the keys with ``vigil studies list``."""


class StudyDeletedError(TriageError):
    """The study was deleted; its rows tell when and why. Have it sent again: it then counts as new."""


class DeletingElsewhereError(TriageError):
    """Another process is deleting, as the node does once a minute. Try again when it has done."""


class RevisionChangedError(TriageError):
    """Another revision of the study counts now. Load the study again and judge that one."""


class ScoreChangedError(TriageError):
    """The study was scored again since you looked. Load it again and judge what it says now."""


class ConflictError(TriageError):
    """Somebody changed it since you looked. Load it again and decide anew."""


class StorageError(TriageError):
    """A stored object cannot be used. See the more specific error."""

    code = "storage_failed"


class StorageAwayError(StorageError):
    """The store does not answer. Check VIGIL_STORE, its endpoint and credentials."""

    code = "storage_away"


class ObjectMissingError(StorageError):
    """The store has no such object. Vigil makes a pack again where it still has the received files."""

    code = "pack_missing"


class ObjectDamagedError(StorageError):
    """The object is not the one that was stored. Look after the disks of the store."""

    code = "pack_damaged"


class NewerObjectError(StorageError):
    """The object was written by a later release. Update Vigil on this machine, then replay the study."""

    code = "pack_newer"


class InstancesMissingError(StorageError):
    """Received files of the study are gone, or not what was received. Have the study sent again."""

    code = "instances_missing"


class ScratchFullError(StorageError):
    """The study does not fit into the worker's scratch space. Raise VIGIL_SCRATCH_MB, or free its disk."""

    code = "scratch_full"


class ViewerBusyError(TriageError):
    """Others look at large volumes. Try again in a moment."""


class Answer(StrEnum):
    """What the service does about an error of a lower package."""

    RETRY = "retry"  # the same work may succeed later
    ASK = "ask"  # a person has to change something first


def answer_to(error: Exception) -> Answer:
    """Decide between another attempt and a person.

    Everything is retried a bounded number of times except a refusal, for a destination that rejected an
    object once will reject the same bytes again, and a result whose bytes are not those that were made.
    """
    is_final = isinstance(error, (DestinationRefusedError, ObjectDamagedError))
    return Answer.ASK if is_final else Answer.RETRY
