"""A running site as files. Nothing is deleted meanwhile, nothing stands still."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from dicom_node.errors import PeersError
from service import __version__, retention, wiring, witness
from service.active import POINTER
from service.backup import rows
from service.backup.ageing import dated, expire
from service.backup.bundle import CHUNK, FORMAT, BackupError, Draft, Manifest, Part
from service.doctor.secrets import secret_files
from service.errors import ObjectMissingError, SettingsError
from service.reception import open_peers
from service.settings import Settings
from service.shadowed import shadow_of
from service.storage import ObjectStore
from service.store import Store, audit, conninfo, migrations
from service.stored import open_object_store

ACTOR = "operator"
CONFIGURATION = ("site.key", "peers.yaml", "oidc.yaml", POINTER)
# Objects of a store, as the rows name them. Maps are no results, and go with them.
PACKS = (
    "SELECT 'packs/' || study.key || '/' || content_hash || '.tar' FROM vigil.revision"
    " JOIN vigil.study ON study.id = study_id WHERE pack = 'confirmed' AND bytes_are = 'here'"
)
MADE = (
    "SELECT 'results/' || path FROM (SELECT score_id, path FROM vigil.result"
    " UNION SELECT score_id, path FROM vigil.map) AS made"
    " JOIN vigil.score ON score.id = score_id JOIN vigil.revision ON revision.id = revision_id"
    " JOIN vigil.study ON study.id = study_id WHERE bytes_are = 'here'"
)
RECEIVED = (
    "SELECT 'spool/' || key || '/' || file_name FROM vigil.instance JOIN vigil.study ON study.id = study_id"
    " WHERE bytes_are = 'here' AND is_on_node AND NOT is_deleted"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A finished backup.

    Attributes
    ----------
    path : str
    sha256 : str
        Of its manifest, which holds the hashes of all else.
    files, bytes, rows : int
    missing : int
        Files that rows speak of and that were not there.
    elsewhere : tuple of str
        Files of secrets that are not in it, and the folder of a model that only watches.
    expired : tuple of str
        Names of older backups that went.
    """

    path: str
    sha256: str
    files: int
    bytes: int
    rows: int
    missing: int
    elsewhere: tuple[str, ...]
    expired: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """What one transaction saw."""

    at: datetime
    head: str
    rows: dict[str, int]
    sequences: dict[str, int]
    packs: list[str]
    made: list[str]
    received: list[str]


def save(
    settings: Settings, store: Store, target: Path, parts: frozenset[Part], *, keep: int | None = None
) -> Saved:
    """Make a backup; a run that was interrupted is gone on with.

    Parameters
    ----------
    settings : Settings
    store : Store
        Of this release's schema.
    target : Path
        Folder, or with the suffix ``.tar`` a file, that is not there yet.
    parts : frozenset of Part
    keep : int, optional
        Put the time into the name, and when all is written and read back remove older backups of that name
        until so many are left.

    Raises
    ------
    BackupError
        If the target is there, something is being deleted, or the disk is full or gives back other bytes.
    """
    if keep is None and target.exists():
        raise BackupError(f"{target.name} is there already. Name another, or run it with --keep.")
    objects = open_object_store(settings) if Part.STORE in parts else None
    if Part.STORE in parts and objects is None:
        raise BackupError("VIGIL_STORE is unset: there is no store to save. Leave `--include store` out.")
    draft = Draft.open(target.with_name(f"{target.name}.part"))
    with retention.alone(store) as is_alone:
        if not is_alone:
            raise BackupError("Studies are being deleted, or another backup is made. Try again in a minute.")
        kept = _kept_head(settings)
        snapshot = _save_rows(store, draft)
        draft.add(f"configuration/{witness.FILE}", [kept or f"{snapshot.head}\n".encode()])
        model = _save_configuration(settings, draft)
        missing = _save_images(settings, draft, snapshot, parts, objects)
    manifest = Manifest(
        format=FORMAT,
        vigil=__version__,
        made_at=snapshot.at,
        revision=str(migrations.revision(store)),
        head=snapshot.head,
        parts=sorted(parts),
        rows=snapshot.rows,
        sequences=snapshot.sequences,
        model=model,
        missing=missing,
        elsewhere=_elsewhere(settings),
        files=[draft.files[name] for name in sorted(draft.files)],
    )
    if keep is not None:
        target = dated(target, manifest.made_at)
    digest = draft.finish(manifest, target)
    expired = () if keep is None else expire(target, keep)
    saved = Saved(
        path=str(target),
        sha256=digest,
        files=len(manifest.files),
        bytes=sum(entry.bytes for entry in manifest.files),
        rows=sum(manifest.rows.values()),
        missing=missing,
        elsewhere=tuple(manifest.elsewhere),
        expired=expired,
    )
    with store.transaction() as session:
        audit.append(
            session,
            "backup.made",
            actor=ACTOR,
            manifest_sha256=digest,
            head=snapshot.head,
            files=saved.files,
            bytes=saved.bytes,
            parts=[str(part) for part in manifest.parts],
            expired=len(expired),
        )
    return saved


def _save_rows(store: Store, draft: Draft) -> _Snapshot:
    """Write every table as one moment saw it."""
    with closing(psycopg.connect(conninfo(store.url))) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        counted = {}
        for table in rows.tables(connection):
            counted[table.name] = rows.count(connection, table)
            draft.add(table.file, rows.copy_out(connection, table))
        found = connection.execute(
            "SELECT now(), coalesce((SELECT number || ':' || hash FROM vigil.audit"
            " ORDER BY number DESC LIMIT 1), '0:' || repeat('0', 64))"
        ).fetchone()
        assert found is not None  # noqa: S101 - a query without FROM has one row
        at, head = found
        return _Snapshot(
            at=at,
            head=head,
            rows=counted,
            sequences=rows.sequences(connection),
            packs=_names(connection, PACKS),
            made=_names(connection, MADE),
            received=_names(connection, RECEIVED),
        )


def _kept_head(settings: Settings) -> bytes | None:
    """What the witness wrote down; None where it has not yet.

    Read before the rows: the witness writes every minute, and a head that is newer than the trail beside it
    says that the trail was cut.
    """
    path = settings.data / witness.FILE
    return path.read_bytes() if path.exists() else None


def _names(connection: rows.Connection, query: str) -> list[str]:
    return [str(name) for (name,) in connection.execute(query.encode())]


def _save_configuration(settings: Settings, draft: Draft) -> str | None:
    """Copy what the site decided; return the hash of its own model, None where the shipped one serves."""
    places = {
        "site.key": settings.key_path,
        "peers.yaml": settings.peers_path,
        "oidc.yaml": settings.oidc,
        POINTER: settings.data / POINTER,
    }
    for name in CONFIGURATION:
        path = places[name]
        if path is not None and path.exists():
            draft.add(f"configuration/{name}", [path.read_bytes()])
    given = settings.model_dump_json(exclude_unset=True, exclude={"database_url"}, indent=1)
    draft.add("configuration/settings.json", [given.encode()])
    active = wiring.active_model(settings)
    if active.folder() is None:
        return None
    artefact = active.artefact()
    for path in sorted(artefact.path.iterdir()):
        if path.is_file():  # written anew: what an interrupted run left may be of another model
            draft.add(f"model/{path.name}", [path.read_bytes()])
    return artefact.sha256


def _save_images(
    settings: Settings,
    draft: Draft,
    snapshot: _Snapshot,
    parts: frozenset[Part],
    objects: ObjectStore | None,
) -> int:
    """Copy images; return how many that the rows speak of were not there."""
    wanted: list[str] = []
    if Part.SPOOL in parts:
        for name in ("spool", "quarantine"):
            _copy_folder(draft, name, settings.data / name)
        wanted += snapshot.received
    if Part.RESULTS in parts:
        _copy_folder(draft, "results", settings.results_folder)
        if settings.store is None:
            wanted += snapshot.made
    if objects is not None:
        for name in (*snapshot.packs, *snapshot.made):
            try:
                with objects.open(name) as source:
                    draft.add(f"store/{name}", iter(lambda: source.read(CHUNK), b""))
            except ObjectMissingError:
                wanted.append(f"store/{name}")
    return sum(name not in draft.files for name in wanted)


def _copy_folder(draft: Draft, name: str, root: Path) -> None:
    for path in _visible(root):
        draft.copy(f"{name}/{path.relative_to(root).as_posix()}", path)


def _visible(folder: Path) -> Iterator[Path]:
    """Files below a folder; what begins with a dot is unfinished, or made again."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _visible(path)
        else:
            yield path


def _elsewhere(settings: Settings) -> list[str]:
    """Name what the configuration needs and the backup does not hold: secrets, and a shadow model."""
    try:
        peers = open_peers(settings)
    except PeersError:
        peers = None
    named = [f"{whose}: {path}" for whose, path in secret_files(settings, peers)]
    try:
        shadow = shadow_of(settings.data)
    except SettingsError:  # vigil doctor tells it
        return named
    return named if shadow is None else [*named, f"shadow model: {shadow.path}"]
