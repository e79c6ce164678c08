"""A site as files with a list of their hashes, and a site made of them.

What is saved: the rows (`rows`), in one snapshot; the configuration with the site secret; the model that
serves, where it is a site's own; and, where asked for, received studies, results and the store. Not saved:
the engine's queue, which the reaper fills again from our rows, and sessions, invitations and sign-ins under
way, for one that was ended since would live again.

Rows are copied by our own connection and not by ``pg_dump``: that must be of the server's major version or
later, stands in no image of ours, and would write a schema that the migrations make anyway. So a backup of an
older release goes into that release's schema and is then upgraded, and it fits any PostgreSQL.
"""

from service.backup.bundle import BackupError, Part
from service.backup.restoring import Restored, restore
from service.backup.saving import Saved, save

__all__ = ["BackupError", "Part", "Restored", "Saved", "restore", "save"]
