"""What can go wrong in the service, and what to do about it.

TriageError
├── SettingsError           the operator corrects the named setting
├── DatabaseError           the operator makes the database reachable
│   ├── EmbeddedDatabaseError
│   └── SchemaError         the database and this Vigil do not belong together
│       ├── SchemaBehindError
│       └── SchemaAheadError
├── RoleFailedError         a role cannot start; its message says why
└── UnknownStudyError       no study has this key
"""

from enum import StrEnum

from dicom_node.errors import DestinationRefusedError


class TriageError(Exception):
    """Vigil cannot go on. The message names the remedy."""


class SettingsError(TriageError):
    """A setting is wrong. The message names it and the values it may take."""


class DatabaseError(TriageError):
    """The database does not answer. Check that it runs and that VIGIL_DATABASE_URL is right."""


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


class UnknownStudyError(TriageError):
    """No study has this key. List the keys with ``vigil studies list``."""


class Answer(StrEnum):
    """What the service does about an error of a lower package."""

    RETRY = "retry"  # the same work may succeed later
    ASK = "ask"  # a person has to change something first


def answer_to(error: Exception) -> Answer:
    """Decide between another attempt and a person.

    Everything is retried a bounded number of times except a refusal: a destination that rejected an object
    once will reject the same bytes again.
    """
    return Answer.ASK if isinstance(error, DestinationRefusedError) else Answer.RETRY
