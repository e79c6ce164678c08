"""The files of a backup: a folder, or one tar of it, with a manifest that names and hashes each."""

import errno
import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dicom_node.durable import make_folder, sync_folder, write_durably
from service.errors import TriageError

FORMAT = 1
MANIFEST = "manifest.json"
JOURNAL = ".journal"
CHUNK = 1024 * 1024
LONGEST_MANIFEST = 1024 * CHUNK  # bytes; some four million files

# Plain parts, none of which begins with a dot: no name leads out of its folder.
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
Name = Annotated[str, StringConstraints(pattern=f"^{_PART}(/{_PART})*$", max_length=500)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class BackupError(TriageError):
    """The backup cannot be made or used. The message says why."""


class Part(StrEnum):
    """What of the images a backup holds besides the rows and the configuration."""

    SPOOL = "spool"  # received studies and the quarantine
    RESULTS = "results"  # result objects in the data folder
    STORE = "store"  # packs and results in the store


class Entry(BaseModel):
    """One file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """What a backup holds.

    Attributes
    ----------
    format : int
    vigil : str
        Release that made it.
    made_at : datetime
        Of the snapshot.
    revision : str
        Newest migration of the schema that the rows are of.
    head : str
        ``NUMBER:HASH`` of the audit trail in the snapshot.
    parts : list of Part
    rows : dict of str to int
        Of each table.
    sequences : dict of str to int
        Newest number of each.
    model : str or None
        Hash of a site's own artefact below ``model/``.
    missing : int
        Files that rows speak of and that were not there.
    elsewhere : list of str
        Files of secrets that the configuration names and the backup does not hold.
    files : list of Entry
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    vigil: str
    made_at: AwareDatetime
    revision: str
    head: str
    parts: list[Part]
    rows: dict[str, int]
    sequences: dict[str, int]
    model: str | None
    missing: int
    elsewhere: list[str]
    files: list[Entry]


class Copied(BaseModel):
    """What the journal of a draft says of a file that was copied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: Entry
    mtime_ns: int


@contextmanager
def put_on_disk(what: str) -> Iterator[None]:
    """Say what to do where a disk refuses what is written.

    Parameters
    ----------
    what : str
        Is being written.

    Raises
    ------
    BackupError
        If there is no room, or something may not be read or written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise BackupError(
                f"No room is left for {what}. Free some or name another place, then run it again."
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise BackupError(
                f"{error.filename or what}: {error.strerror}. Run it as the user that runs Vigil, and name a"
                " place where that user may write."
            ) from error
        raise


@dataclass(slots=True)
class Draft:
    """A backup that is being made. What an interrupted run copied and nobody changed is not copied again.

    Attributes
    ----------
    root : Path
    """

    root: Path
    files: dict[str, Entry] = field(default_factory=dict)
    _copied: dict[str, Copied] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path) -> "Draft":
        """New draft, or the one an interrupted run left."""
        make_folder(root)
        root.chmod(0o700)
        draft = cls(root)
        journal = root / JOURNAL
        for line in journal.read_text("utf-8").splitlines() if journal.exists() else ():
            try:
                copied = Copied.model_validate_json(line)
            except ValidationError:  # the last line of a killed run
                continue
            draft._copied[copied.entry.name] = copied
        return draft

    def add(self, name: str, parts: Iterable[bytes]) -> Entry:
        """Write a file.

        Raises
        ------
        BackupError
            If the name is none of ours.
        """
        path = self.root / name
        make_folder(path.parent)
        digest, size = hashlib.sha256(), 0
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for part in parts:
                file.write(part)
                digest.update(part)
                size += len(part)
            file.flush()
            os.fsync(file.fileno())
        try:
            entry = Entry(name=name, sha256=digest.hexdigest(), bytes=size)
        except ValidationError as error:
            raise BackupError("A file has a name that no file of Vigil has; move it elsewhere.") from error
        self.files[name] = entry
        return entry

    def copy(self, name: str, source: Path) -> bool:
        """Copy a file; False where it is gone. One that is as it was when it was copied stands already."""
        known = self._copied.get(name)
        try:
            with source.open("rb") as file:
                found = os.fstat(file.fileno())
                if known is not None and self._stands(known, found):
                    self.files[name] = known.entry
                    return True
                entry = self.add(name, iter(lambda: file.read(CHUNK), b""))
        except FileNotFoundError:
            return False
        with (self.root / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(Copied(entry=entry, mtime_ns=found.st_mtime_ns).model_dump_json() + "\n")
        return True

    def _stands(self, known: Copied, source: os.stat_result) -> bool:
        """Whether source and copy are as the journal says."""
        path = self.root / known.entry.name
        return (
            (source.st_size, source.st_mtime_ns) == (known.entry.bytes, known.mtime_ns)
            and path.exists()
            and path.stat().st_size == known.entry.bytes
        )

    def finish(self, manifest: Manifest, target: Path) -> str:
        """Verify all that was written, and put it in place as a whole; return the manifest's hash.

        Raises
        ------
        BackupError
            If the disk gives back something else than was written.
        """
        content = manifest.model_dump_json(indent=1).encode()
        for path in [*self.root.rglob("*")]:  # of an earlier run, and not of this one
            if path.is_file() and path.relative_to(self.root).as_posix() not in self.files:
                path.unlink()
        write_durably(self.root / MANIFEST, content)
        verify(FolderBundle(self.root))
        if target.suffix == ".tar":
            self._pack(target)
        else:
            self.root.rename(target)
            sync_folder(target.parent)
        return hashlib.sha256(content).hexdigest()

    def _pack(self, target: Path) -> None:
        """Make one file of the folder; the folder goes when that has been read back."""
        part = target.with_name(f".{target.name}.part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for name in (MANIFEST, *sorted(self.files)):
                    tar.add(self.root / name, name, recursive=False)
            file.flush()
            os.fsync(file.fileno())
        with open_bundle(part) as packed:
            verify(packed)
        part.rename(target)
        sync_folder(target.parent)
        for path in sorted(self.root.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self.root.rmdir()


class Bundle(Protocol):
    """A finished backup."""

    def read(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """File of the backup.

        Raises
        ------
        BackupError
            If it is not there.
        """


@dataclass(frozen=True, slots=True)
class FolderBundle:
    """A backup as a folder."""

    root: Path

    @contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        """File of the backup."""
        try:
            with (self.root / name).open("rb") as file:
                yield file
        except FileNotFoundError as error:
            raise BackupError(f"The backup has no {name}. Take another one.") from error


@dataclass(frozen=True, slots=True)
class TarBundle:
    """A backup as one tar, and where each file is in it."""

    tar: tarfile.TarFile
    members: Mapping[str, tarfile.TarInfo]

    @contextmanager
    def read(self, name: str) -> Iterator[IO[bytes]]:
        """File of the backup.

        Raises
        ------
        BackupError
            If it is not there, or the tar was cut.
        """
        member = self.members.get(name)
        file = self.tar.extractfile(member) if member is not None else None
        if file is None:
            raise BackupError(f"The backup has no {name}. Take another one.")
        with file:
            try:
                yield file
            except tarfile.TarError as error:
                raise BackupError(f"{name} of the backup is damaged. Take another one.") from error


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a backup.

    Raises
    ------
    BackupError
        If there is none.
    """
    if path.is_dir():
        yield FolderBundle(path)
        return
    with ExitStack() as stack:
        try:  # what goes wrong in the block is not the tar's
            tar = stack.enter_context(tarfile.open(path, "r:"))
            # We write files alone: a link may lead to itself, or nowhere.
            members = {member.name: member for member in tar if member.isreg()}
        except (OSError, tarfile.TarError) as error:
            raise BackupError(
                f"{path.name} is no backup, or was cut ({type(error).__name__}). Name its folder or tar."
            ) from error
        yield TarBundle(tar, members)


def manifest_of(bundle: Bundle) -> Manifest:
    """Return what a backup says of itself.

    Raises
    ------
    BackupError
        If it is damaged, unfinished, or of a later release.
    """
    with bundle.read(MANIFEST) as file:
        content = file.read(LONGEST_MANIFEST)
    try:
        said = json.loads(content)
        if isinstance(said, dict) and isinstance(said.get("format"), int) and said["format"] > FORMAT:
            raise BackupError("The backup was made by a later release. Restore it with that one.")
        return Manifest.model_validate(said)
    except (ValueError, RecursionError) as error:
        raise BackupError("The manifest of the backup is damaged. Take another one.") from error


def verify(bundle: Bundle) -> Manifest:
    """Read every byte of a backup.

    Raises
    ------
    BackupError
        Naming the first file that is not what was written.
    """
    manifest = manifest_of(bundle)
    for entry in manifest.files:
        with bundle.read(entry.name) as file:
            digest, size = hashlib.sha256(), 0
            while part := file.read(CHUNK):
                digest.update(part)
                size += len(part)
        if (digest.hexdigest(), size) != (entry.sha256, entry.bytes):
            raise BackupError(f"{entry.name} of the backup is not what was written. Take another one.")
    return manifest
