"""A site made of a backup, in an empty place: all of it, or nothing."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from dicom_node.durable import make_folder, sync_folder, write_durably
from service import witness
from service.active import POINTER
from service.backup import rows
from service.backup.bundle import CHUNK, BackupError, Bundle, Manifest, Part, manifest_of, open_bundle, verify
from service.errors import SchemaAheadError
from service.settings import Settings
from service.storage import ObjectStore, keep
from service.store import Store, audit, migrations
from service.store.audit import AuditHead
from service.store.embedded import EmbeddedDatabase
from service.stored import open_object_store

ACTOR = "operator"
DRAFT = ".restoring"
UNTOUCHED = frozenset({"lost+found"})  # of an empty disk
STOP_S = 90.0
CONFIGURATION = "configuration/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A site that was made of a backup.

    Attributes
    ----------
    data : str
    made_at : str
        When the backup was made: what happened later is not here.
    rows, files : int
    head : str
        Of the audit trail, which was verified.
    elsewhere : tuple of str
        Files of secrets that have to be put back by hand.
    unheld : str or None
        Head that the backup kept and that is newer than its trail: the trail was cut before, or the site
        worked on while an earlier release made the backup.
    """

    data: str
    made_at: str
    rows: int
    files: int
    head: str
    elsewhere: tuple[str, ...]
    unheld: str | None


def check(source: Path) -> Manifest:
    """Verify a backup without restoring it.

    Raises
    ------
    BackupError, SchemaAheadError
        If it cannot be restored by this release.
    """
    with open_bundle(source) as bundle:
        return _check(bundle)


def restore(settings: Settings, source: Path) -> Restored:
    """Make a site of a backup: verify, fill the database in one transaction, put the files in place.

    Parameters
    ----------
    settings : Settings
        Of the site that is to be: data folder and database are empty.
    source : Path

    Raises
    ------
    BackupError
        If the backup is damaged, or the place is not empty.
    SchemaAheadError
        If it is of a later release.
    AuditBrokenError
        If its audit trail is not what it was.
    """
    _require_empty(settings.data)
    objects = open_object_store(settings)
    with open_bundle(source) as bundle:
        manifest = _check(bundle)
        if Part.STORE in manifest.parts and objects is None:
            raise BackupError("The backup holds objects of a store. Set VIGIL_STORE to an empty one.")
        _require_key(settings, bundle, manifest)
        unheld = _unheld(bundle, manifest)
        draft = settings.data / DRAFT
        make_folder(draft)
        try:
            with _database(settings, draft) as store:
                with store.engine.connect() as connection:
                    _require_no_rows(connection)
                _put_files(draft, settings.data, bundle, manifest, objects)
                if unheld is not None:
                    write_durably(draft / witness.FILE, f"{manifest.head}\n".encode())
                with store.engine.begin() as connection:
                    head = _fill(connection, bundle, manifest, unheld)
        except BaseException:  # nothing of it is anybody's yet
            shutil.rmtree(draft, ignore_errors=True)
            raise
    with suppress(PermissionError):  # a mounted volume is somebody else's; what comes below it is closed
        settings.data.chmod(0o700)
    shutil.rmtree(draft / "run", ignore_errors=True)  # the socket of the server that filled the database
    os.sync()  # once, instead of for each of some thousand files
    for path in sorted(draft.iterdir()):
        path.rename(settings.data / path.name)
    draft.rmdir()
    sync_folder(settings.data)
    return Restored(
        data=str(settings.data),
        made_at=manifest.made_at.isoformat(),
        rows=sum(manifest.rows.values()),
        files=len(manifest.files),
        head=str(head),
        elsewhere=tuple(manifest.elsewhere),
        unheld=unheld,
    )


def _check(bundle: Bundle) -> Manifest:
    if not migrations.is_known(manifest_of(bundle).revision):
        raise SchemaAheadError("The backup belongs to a newer Vigil. Restore it with that one.")
    return verify(bundle)


def _require_empty(data: Path) -> None:
    found = sorted({path.name for path in data.iterdir()} - UNTOUCHED) if data.is_dir() else []
    if DRAFT in found:
        raise BackupError(
            "An earlier restore into this data folder was interrupted. Empty the folder, and the database"
            " where it is one of the site, and run it again."
        )
    if found:
        raise BackupError("The data folder is not empty. Name a new one: a restore overwrites nothing.")


def _require_no_rows(connection: Connection) -> None:
    """Refuse a database where a Vigil worked; `vigil db upgrade` leaves a schema without a row."""
    driver = _driver(connection)
    tables = rows.tables(driver)
    if any(table.name == "audit" for table in tables):  # until the end nobody else begins to work here
        connection.execute(text("LOCK TABLE vigil.audit IN ACCESS EXCLUSIVE MODE"))
    if any(rows.count(driver, table) for table in tables):
        raise BackupError(
            "The database has a Vigil in it that worked. Stop its roles and make a new database: a restore"
            " overwrites nothing."
        )


def _driver(connection: Connection) -> psycopg.Connection[tuple[object, ...]]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - one dialect, one driver
    return driver


def _require_key(settings: Settings, bundle: Bundle, manifest: Manifest) -> None:
    """Refuse a key file that would give the studies other keys."""
    name = f"{CONFIGURATION}site.key"
    if settings.key_file is None or not any(entry.name == name for entry in manifest.files):
        return
    with bundle.read(name) as file:
        kept = file.read()
    if not settings.key_file.exists() or settings.key_file.read_bytes().strip() != kept.strip():
        raise BackupError(
            "VIGIL_KEY_FILE does not hold the site key of the backup. Put that one there: it is"
            f" {name} of the backup."
        )


def _unheld(bundle: Bundle, manifest: Manifest) -> str | None:
    """Head of the witness where it is newer than the trail of the backup."""
    name = f"{CONFIGURATION}{witness.FILE}"
    if not any(entry.name == name for entry in manifest.files):
        return None
    with bundle.read(name) as file:
        content = file.read(CHUNK)
    try:
        kept = AuditHead.read(content.decode("ascii"))
    except ValueError:  # `vigil doctor` tells it
        return None
    return str(kept) if kept.number > AuditHead.read(manifest.head).number else None


def _put_files(
    draft: Path, data: Path, bundle: Bundle, manifest: Manifest, objects: ObjectStore | None
) -> None:
    """Write every file where it belongs, below the draft of the data folder, and objects into the store."""
    for entry in manifest.files:
        top, _, rest = entry.name.partition("/")
        with bundle.read(entry.name) as file:
            parts = iter(lambda: file.read(CHUNK), b"")
            if top == "store" and objects is not None:
                keep(objects, rest, parts)
            elif top == "model":
                _write(draft / "models" / _model_folder(manifest) / rest, parts)
            elif top == "configuration":
                _write(draft / ("settings-of-backup.json" if rest == "settings.json" else rest), parts)
            elif top in {"spool", "quarantine", "results"}:
                _write(draft / entry.name, parts)
    if manifest.model is not None:
        path = data / "models" / _model_folder(manifest)
        write_durably(draft / POINTER, json.dumps({"path": str(path), "sha256": manifest.model}).encode())


def _model_folder(manifest: Manifest) -> str:
    return f"restored-{(manifest.model or '')[:16]}"


def _write(path: Path, parts: Iterator[bytes]) -> None:
    make_folder(path.parent)
    with path.open("xb") as file:
        path.chmod(0o600)
        for part in parts:
            file.write(part)
        file.flush()


@contextmanager
def _database(settings: Settings, draft: Path) -> Iterator[Store]:
    """Database that is to be filled: the site's own, or a new embedded one below the draft."""
    given = settings.site_database_url()
    if given is not None:
        with closing(Store.open(given)) as store:
            store.check()
            yield store
        return
    database = EmbeddedDatabase(draft)
    database.prepare()
    server = subprocess.Popen(database.command(), stderr=subprocess.DEVNULL)
    try:
        database.wait_until_ready()
        with closing(Store.open(database.url)) as store:
            yield store
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(STOP_S)


def _fill(connection: Connection, bundle: Bundle, manifest: Manifest, unheld: str | None) -> AuditHead:
    """Fill the schema of the backup with its rows, upgrade it, and verify the audit trail."""
    driver = _driver(connection)
    _require_no_rows(connection)

    def fill() -> None:
        names = list(manifest.rows)
        tables = {table.name: table for table in rows.tables(driver)}
        if set(tables) != set(names):
            raise BackupError("The backup has other tables than its schema. Take another one.")
        rows.set_triggers(driver, names, on=False)
        for name, table in tables.items():
            with bundle.read(table.file) as file:
                if rows.copy_in(driver, table, file) != manifest.rows[name]:
                    raise BackupError(f"The backup has not all rows of {name}. Take another one.")
        rows.set_triggers(driver, names, on=True)
        rows.set_sequences(driver, manifest.sequences)

    migrations.load(connection, manifest.revision, fill)
    with Session(bind=connection) as session:
        audit.verify(session, [AuditHead.read(manifest.head)])
        audit.append(
            session,
            "backup.restored",
            actor=ACTOR,
            head=manifest.head,
            made_at=manifest.made_at.isoformat(),
            vigil=manifest.vigil,
            **({} if unheld is None else {"unheld": unheld}),
        )
        return audit.head(session)
