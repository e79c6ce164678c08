"""What a folder holds, by study: an index on disk that nobody else can open and that goes with the process.

Paths and UIDs may name a patient, so nothing of it stays: a second run reads the headers again.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from dicom_node.errors import UnreadableInstanceError
from dicom_node.identity import instance_file_name
from dicom_node.importing import files_below, look

NOT_DICOM = "not_an_image"  # or not one that we keep
OWN_RESULT = "own_result"
UNREADABLE = "unreadable"
COMMIT_EVERY = 10_000  # files
CACHE_KB = 8192  # of the index in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStudy:
    """One study of the folder.

    Attributes
    ----------
    study_uid : str
    paths : tuple of Path
    names : frozenset of str
        File names that its instances get in the spool.
    """

    study_uid: str
    paths: tuple[Path, ...]
    names: frozenset[str]


@dataclass(slots=True)
class Index:
    """Files of a folder by study, in the order in which the studies were met.

    Attributes
    ----------
    left_out : Counter of str
        Files that are not to be copied, by code.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    # An empty name is SQLite's temporary database: on disk once it outgrows its cache, and unlinked at once.
    _database: sqlite3.Connection = field(default_factory=lambda: sqlite3.connect(""))

    def __post_init__(self) -> None:
        self._database.execute("PRAGMA temp_store = FILE")
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        self._database.execute(
            "CREATE TABLE file (id INTEGER PRIMARY KEY, study TEXT NOT NULL, name TEXT NOT NULL, path BLOB)"
        )
        self._database.execute("CREATE INDEX file_study ON file (study, id)")

    @property
    def studies(self) -> int:
        """How many studies there are."""
        return int(self._database.execute("SELECT count(DISTINCT study) FROM file").fetchone()[0])

    def read(self, folder: Path, *, go_on: Callable[[int], bool]) -> None:
        """Look at every file below a folder.

        Parameters
        ----------
        go_on : callable
            Told how many files were looked at; False ends it.
        """
        for number, path in enumerate(files_below(folder), start=1):
            self._add(path)
            if number % COMMIT_EVERY == 0:
                self._database.commit()
            if not go_on(number):
                return
        self._database.commit()

    def _add(self, path: Path) -> None:
        try:
            found = look(path)
        except UnreadableInstanceError:
            self.left_out[NOT_DICOM] += 1
        except OSError:
            self.left_out[UNREADABLE] += 1
        else:
            if found.is_own:
                self.left_out[OWN_RESULT] += 1
                return
            self._database.execute(
                "INSERT INTO file (study, name, path) VALUES (?, ?, ?)",
                (found.study_uid, instance_file_name(found.sop_instance_uid), bytes(path)),
            )

    def __iter__(self) -> Iterator[FoundStudy]:
        """Study after study."""
        order = "SELECT study FROM file GROUP BY study ORDER BY min(id)"
        with closing(self._database.execute(order)) as rows:
            for (study_uid,) in rows:
                files = self._database.execute(
                    "SELECT name, path FROM file WHERE study = ? ORDER BY id", (study_uid,)
                ).fetchall()
                yield FoundStudy(
                    study_uid=study_uid,
                    paths=tuple(Path(path.decode(errors="surrogateescape")) for _, path in files),
                    names=frozenset(name for name, _ in files),
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
