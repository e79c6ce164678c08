"""All that this suite knows of Vigil's inside: where bytes lie, what the tables are called.

Everything else of it goes by commands, signals, DICOM and the API. When storage or schema change, change
this file.
"""

import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from sqlalchemy import text

from dicom_node.identity import load_or_make_secret, study_key
from service.store import Store, studies
from service.store.embedded import EmbeddedDatabase
from service.study import Priority
from tests.bucket import ACCESS_KEY, BUCKET, SECRET_KEY
from tests.faults.traffic import data_set_digest

# Folders below the data folder where received bytes are never kept.
_NO_BYTES = ("postgres", "run", "results", "engines", "logs")
_DRAFT_SUFFIXES = {".part", ".new", ".tmp", ".draft"}
_KEPT_NAMES = {".used", ".lock"}  # how full the spool is; who uses a scratch folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One model on one revision of a study, as the database has it."""

    study_key: str
    revision: int
    is_newest: bool
    model: str
    state: str
    reason: str | None
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResult:
    """One result object."""

    sop_instance_uid: str
    digest: str | None  # of the data set; None where its file is not there
    destinations: tuple[str, ...]
    withdrawn: tuple[str, ...]  # of those that may never have got it: a newer score was faster


@dataclass(slots=True)
class Inside:
    """A Vigil's data folder and database.

    Attributes
    ----------
    data : Path
    database_url : str
    """

    data: Path
    database_url: str
    bucket: "Bucket | None" = None
    unreadable: set[str] = field(default_factory=set)  # files of studies that are none
    _digests: dict[tuple[Path, int], frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Path, database_url: str | None = None, bucket: "Bucket | None" = None) -> "Inside":
        return cls(data, database_url or EmbeddedDatabase(data).url, bucket)

    @property
    def postmaster_file(self) -> Path:
        """File in which the embedded server says its process id."""
        return EmbeddedDatabase(self.data).folder / "postmaster.pid"

    @property
    def socket_folder(self) -> Path:
        return EmbeddedDatabase(self.data).socket_folder

    def wait_for_database(self) -> None:
        """Return when the embedded server has our database in it."""
        EmbeddedDatabase(self.data).wait_until_ready()

    def key(self, study_uid: str) -> str:
        return study_key(load_or_make_secret(self.data / "site.key"), study_uid)

    def raise_priority(self, study_uid: str) -> None:
        """Call for a study as a person does; a database that is away is no matter, the call is dropped."""
        try:
            with self._store() as store, store.transaction() as session:
                studies.raise_priority(session, self.key(study_uid), Priority.STAT)
        except Exception as error:  # noqa: BLE001 - whatever a fault did to the connection
            del error

    def kept_digests(self) -> frozenset[str]:
        """Digest of every data set the node keeps: files and packs, wherever they lie."""
        found = [self._digests_in(path) for path in self._files_of_studies()]
        if self.bucket is not None:
            found += [frozenset(_packed(self.bucket.read(name))) for name in self.bucket.names("packs")]
        return frozenset().union(*found)

    def _files_of_studies(self) -> Iterator[Path]:
        for top in sorted(self.data.iterdir()):
            if top.is_dir() and top.name not in _NO_BYTES:
                yield from (path for path in top.rglob("*") if path.suffix in {".dcm", ".tar"})

    def _digests_in(self, path: Path) -> frozenset[str]:
        try:
            known = (path, path.stat().st_mtime_ns)
            if known not in self._digests:
                self._digests[known] = frozenset(_digests(path))
        except FileNotFoundError:  # packed or moved while we look; the next look has it
            return frozenset()
        except ValueError:
            self.unreadable.add(str(path.relative_to(self.data)))
            return frozenset()
        return self._digests[known]

    def runs(self) -> list[Run]:
        query = (
            "SELECT study.key, revision.number, revision.number = max(revision.number)"
            "  OVER (PARTITION BY study.id) AS is_newest,"
            " score.model_hash, score.state, score.reason, array_agg(result.kind ORDER BY result.kind)"
            "  FILTER (WHERE result.id IS NOT NULL) AS kinds"
            " FROM vigil.study JOIN vigil.revision ON revision.study_id = study.id"
            " JOIN vigil.score ON score.revision_id = revision.id"
            " LEFT JOIN vigil.result ON result.score_id = score.id"
            " GROUP BY study.id, study.key, revision.number, score.id"
            " ORDER BY study.key, revision.number, score.id"
        )
        with self._store() as store, store.transaction() as session:
            return [
                Run(
                    study_key=row.key,
                    revision=row.number,
                    is_newest=row.is_newest,
                    model=row.model_hash,
                    state=row.state,
                    reason=row.reason,
                    kinds=tuple(row.kinds or ()),
                )
                for row in session.execute(text(query))
            ]

    def results(self) -> list[KeptResult]:
        query = (
            "SELECT result.sop_instance_uid, result.path,"
            " array_agg(delivery.destination ORDER BY delivery.destination) AS destinations,"
            " array_agg(delivery.destination) FILTER (WHERE delivery.status = 'withdrawn') AS withdrawn"
            " FROM vigil.result JOIN vigil.delivery ON delivery.result_id = result.id GROUP BY result.id"
        )
        with self._store() as store, store.transaction() as session:
            return [
                KeptResult(
                    sop_instance_uid=row.sop_instance_uid,
                    digest=self._result_digest(row.path),
                    destinations=tuple(row.destinations),
                    withdrawn=tuple(row.withdrawn or ()),
                )
                for row in session.execute(text(query))
            ]

    def _result_digest(self, path: str) -> str | None:
        try:
            if self.bucket is not None:
                return data_set_digest(self.bucket.read(f"results/{path}"))
            return data_set_digest((self.data / "results" / path).read_bytes())
        except (OSError, ValueError):
            return None

    def left_over(self) -> list[str]:
        """Everything that only a process at work may have: drafts, scratch, results without a row."""
        drafts = [
            str(path.relative_to(self.data))
            for path in self.data.rglob("*")
            if path.is_file() and _is_draft(path.relative_to(self.data))
        ]
        damaged = [path.name for path in (self.data / "log").glob("damaged.*")]
        return drafts + damaged

    def results_without_row(self) -> list[str]:
        """Result objects that no row names, of studies in which no run was overtaken.

        A run that a newer revision overtakes may have written its objects already. They lie in the study's
        folder and go with it.
        """
        query = (
            "SELECT DISTINCT study.key FROM vigil.study JOIN vigil.revision ON revision.study_id = study.id"
            " JOIN vigil.score ON score.revision_id = revision.id WHERE score.reason = 'superseded'"
        )
        with self._store() as store, store.transaction() as session:
            known = set(session.scalars(text("SELECT path FROM vigil.result")))
            overtaken = set(session.scalars(text(query)))
        root = self.data / "results"
        found = (path.relative_to(root) for path in root.rglob("*.dcm"))
        return [str(path) for path in found if str(path) not in known and path.parts[0] not in overtaken]

    def is_log_empty(self) -> bool:
        """Whether everything received is a file of the spool."""
        return not any(path.name.startswith(("active-", "sealed.")) for path in (self.data / "log").iterdir())

    def silent_jobs(self, pool: str, *, silent_s: float) -> list[int]:
        """Jobs that a worker has in hand of which nothing was heard for so long."""
        query = (
            "SELECT job.id FROM procrastinate_jobs job LEFT JOIN procrastinate_workers worker"
            " ON worker.id = job.worker_id WHERE job.queue_name = :pool AND job.status = 'doing'"
            " AND coalesce(worker.last_heartbeat, '-infinity') <= now() - make_interval(secs => :silent)"
            " ORDER BY job.id"
        )
        with self._store() as store, store.transaction() as session:
            return list(session.scalars(text(query), {"pool": pool, "silent": silent_s}))

    @contextmanager
    def _store(self) -> Iterator[Store]:
        store = Store.open(self.database_url)
        try:
            yield store
        finally:
            store.close()


def _is_draft(path: Path) -> bool:
    if path.parts[0] in {"postgres", "run"} or path.name in _KEPT_NAMES:
        return False
    is_hidden = any(part.startswith(".") for part in path.parts)
    return path.parts[0] == "scratch" or path.suffix in _DRAFT_SUFFIXES or is_hidden


def _digests(path: Path) -> Iterator[str]:
    if path.suffix == ".dcm":
        yield data_set_digest(path.read_bytes())
        return
    yield from _packed(path.read_bytes())


def _packed(pack: bytes) -> Iterator[str]:
    with tarfile.open(fileobj=BytesIO(pack)) as members:
        for member in members:
            content = members.extractfile(member)
            if member.name.endswith(".dcm") and content is not None:
                yield data_set_digest(content.read())


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of an S3-compatible server, as any client sees it."""

    endpoint: str
    name: str
    files: Any  # s3fs, which has no types

    @classmethod
    def make(cls, endpoint: str) -> "Bucket":
        """Empty bucket on a server that may just be starting."""
        import s3fs  # not every machine that runs tests has it

        files = s3fs.S3FileSystem(
            key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=endpoint, skip_instance_cache=True
        )
        deadline = time.monotonic() + 30.0
        while True:
            try:
                files.call_s3("create_bucket", Bucket=BUCKET)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return cls(endpoint, BUCKET, files)

    def environment(self) -> dict[str, str]:
        """Return the settings of a role that uses it."""
        return {
            "VIGIL_STORE": f"s3://{self.name}/site",
            "VIGIL_STORE_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def names(self, folder: str) -> list[str]:
        self.files.invalidate_cache()
        found = self.files.find(f"{self.name}/site/{folder}")
        return [path.removeprefix(f"{self.name}/site/") for path in found]

    def read(self, name: str) -> bytes:
        content: bytes = self.files.cat_file(f"{self.name}/site/{name}")
        return content


def database_on_tcp(data: Path, network: str) -> list[str]:
    """Command of the embedded server, open to the machines of a network as a site's own server is."""
    database = EmbeddedDatabase(data)
    database.prepare()
    rules = database.folder / "pg_hba.conf"
    rules.write_text(f"{rules.read_text()}\nhost all all {network} trust\n")
    return [*database.command(), "-c", "listen_addresses=*"]
