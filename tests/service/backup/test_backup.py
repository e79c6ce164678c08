"""A site with real studies is saved, and another is made of it that goes on where the first stood."""

import hashlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from alembic import command
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from dicom_node.peers import Peers
from dicom_node.services.commitment import Mailbox
from models.artefact import load_artefact
from models.catalogue import active_artefact
from models.predictor import AnyPredictor, load_predictor
from service import engine, reception, wiring
from service.access import Role
from service.backup import BackupError, Part, restore, save, saving
from service.backup.bundle import MANIFEST, Draft, open_bundle, verify
from service.backup.restoring import DRAFT
from service.cli import app
from service.deliver import Delivery
from service.engine import Pool
from service.errors import SchemaAheadError
from service.meters import NodeMeters
from service.provision import Provision
from service.retention import alone
from service.settings import Settings, load_settings
from service.shadowed import set_shadow
from service.shares import Shares
from service.storage import keep
from service.storage.folder import FolderStore
from service.store import (
    Store,
    audit,
    calibrations,
    cohorts,
    feedback,
    migrations,
    people,
    referrals,
    watches,
)
from service.store.audit import AuditHead
from service.store.embedded import EmbeddedDatabase
from service.store.feedback import Opinion
from service.store.objects import ResultFolder
from service.store.tables import (
    AuditRow,
    DeliveryRow,
    InstanceRow,
    ResultRow,
    RevisionRow,
    ScoreRow,
    ShadowScoreRow,
    StudyRow,
)
from service.study import Conspicuity, DeliveryStatus, Origin, State, Verdict
from service.triage import Triage
from service.witness import Witness
from tests.conftest import empty
from tests.databases import empty_databases
from tests.fakes import FakeDestination, FixedModel
from tests.faults.traffic import make_study
from tests.picture_models import write_artefact
from tests.reference_documents import HERE, document
from tests.seeds import plant_watch

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

LATER = datetime(2100, 1, 1, tzinfo=UTC)
TRUST = (
    *("calibration", "group_watch", "watched", "cohort", "cohort_study", "referral", "feedback"),
    "shadow_score",
)
PEERS = "peers:\n  - {name: pacs, aet: PACS, host: 127.0.0.1, port: 104, roles: [destination]}\n"


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's own model."""
    return write_artefact(tmp_path_factory.mktemp("model") / "artefact")


@dataclass
class Site:
    """What a site's roles do, one after another."""

    settings: Settings
    store: Store
    predictor: AnyPredictor
    pacs: FakeDestination

    def receive(self, paths: list[Path]) -> None:
        spool = reception.open_spool(self.settings)
        for path in paths:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            spool.store(header.StudyInstanceUID, header.SOPInstanceUID, [path.read_bytes()])
        intake = wiring.open_intake(self.settings, self.store, spool, Peers(), NodeMeters(self.settings))
        intake.step(LATER)

    def work(self) -> int:
        """Do every job that waits, as the workers do; return how many."""
        done = 0
        for pool, run in ((Pool.INFER, self.triage().run), (Pool.DELIVER, self.delivery().run)):
            for row_id in self.take(pool):
                run(row_id)
                done += 1
        return done

    def take(self, pool: Pool) -> list[int]:
        with self.store.transaction() as session:
            waiting = session.scalars(
                text(
                    "SELECT (args->>'row_id')::bigint FROM procrastinate_jobs"
                    " WHERE queue_name = :pool AND status = 'todo' ORDER BY id"
                ),
                {"pool": pool.value},
            ).all()
            return [row_id for row_id in waiting if engine.cancel(session, pool, row_id)]

    def triage(self) -> Triage:
        return Triage(
            store=self.store,
            provision=Provision(spool_folder=self.settings.spool_folder),
            objects=ResultFolder(self.settings.results_folder),
            models=FixedModel(self.predictor),
            places=Shares(1),
            memory=Shares(1 << 40),
            scratch_folder=self.settings.scratch_folder,
            in_force=wiring.open_calibrations(self.settings).in_force,
            destinations=lambda _: ("pacs",),
            max_voxels=1 << 24,
            attempts=3,
        )

    def delivery(self) -> Delivery:
        return Delivery(
            store=self.store,
            objects=ResultFolder(self.settings.results_folder),
            destinations={"pacs": self.pacs},
            attempts=3,
            mailbox=Mailbox(self.settings.signals_folder / "commitment"),
        )

    def seen(self) -> dict[str, Any]:
        """What counts of the rows."""
        with self.store.transaction() as session:
            return {
                "studies": session.execute(select(StudyRow.key, StudyRow.state, StudyRow.p_value)).all(),
                "instances": session.execute(select(InstanceRow.file_name, InstanceRow.sha256)).all(),
                "results": session.execute(select(ResultRow.path, ResultRow.sha256)).all(),
                "deliveries": session.execute(select(DeliveryRow.id, DeliveryRow.status)).all(),
                "trust": {
                    name: session.scalars(text(f"SELECT t::text FROM vigil.{name} t ORDER BY 1")).all()  # noqa: S608 - names of this file
                    for name in TRUST
                },
            }


def trust(session: Session, key: str) -> None:
    """A row of everything that says how far a number can be trusted, and what people made of it."""
    revision = session.scalars(select(RevisionRow).order_by(RevisionRow.id)).first()
    assert revision is not None
    calibrations.propose(session, document({HERE: 30}), origin=Origin.FILE, actor="ada")
    plant_watch(session, HERE)
    watches.note(session, 1)
    cohorts.want(session, cohorts.begin(session, name="spring", source="s", q=0.1, actor="ada").id, [key])
    referrals.report(session, key, due=LATER.date(), note="nodule", actor="ada")
    opinion = Opinion(verdict=Verdict.CONFIRMED_FINDING, conspicuity=Conspicuity.C2)
    feedback.give(session, key, opinion, actor="ada")
    session.add(ShadowScoreRow(revision_id=revision.id, model_hash="b" * 64))


@pytest.fixture(scope="module")
def source(database_url: str, tmp_path_factory: pytest.TempPathFactory, artefact: Path) -> Iterator[Site]:
    """A study that is scored and delivered, a report that waits for the PACS, a study that waits."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "data").mkdir(mode=0o700)
    (folder / "data" / "peers.yaml").write_text(PEERS)
    settings = load_settings(data=folder / "data", database_url=database_url, quiet_s=1.0, model=artefact)
    store = Store.open(database_url)
    empty(store)
    site = Site(settings, store, load_predictor(load_artefact(artefact)), FakeDestination())
    site.receive(make_study(folder, "scored", "plain").paths)
    assert site.work() > 1
    site.receive(make_study(folder, "declined", "unassessable").paths)
    for score_id in site.take(Pool.INFER):
        site.triage().run(score_id)
    site.receive(make_study(folder, "waiting", "unassessable").paths)
    with store.transaction() as session:
        people.invite(session, Role.ADMIN, actor="first start")
        trust(session, session.scalars(select(StudyRow.key).order_by(StudyRow.id)).first() or "")
    set_shadow(settings.data, active_artefact(), since=LATER)
    Witness(store=store, folder=settings.data).note()
    yield site
    empty(store)
    store.close()


@pytest.fixture(scope="module")
def saved(source: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup with all images."""
    target = tmp_path_factory.mktemp("backups") / "tonight"
    save(source.settings, source.store, target, frozenset({Part.SPOOL, Part.RESULTS}))
    return target


@contextmanager
def running(data: Path) -> Iterator[Store]:
    """The embedded database of a data folder."""
    database = EmbeddedDatabase(data)
    database.prepare()
    # Nothing of a test has to survive a power cut.
    server = subprocess.Popen([*database.command(), "-c", "fsync=off"], stderr=subprocess.DEVNULL)
    try:
        database.wait_until_ready()
        store = Store.open(database.url)
        yield store
        store.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=120)


def test_a_restored_site_goes_on_where_the_first_one_stood(source: Site, saved: Path, tmp_path: Path) -> None:
    before = source.seen()
    states = sorted(row.state for row in before["studies"])
    assert states == [State.NOT_ASSESSABLE, State.QUEUED, State.SCORED]
    assert all(before["trust"].values())
    data = tmp_path / "restored"

    told = CliRunner().invoke(app, ["restore", str(saved), "--data", str(data), "--json"])

    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["elsewhere"] == [f"shadow model: {active_artefact().path}"]
    assert data.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in data.iterdir() if path.name != "postgres") == [
        *("audit.head", "model.json", "models", "peers.yaml", "results", "settings-of-backup.json"),
        *("site.key", "spool"),
    ]
    with running(data) as store:
        verified = CliRunner().invoke(app, ["audit", "verify", "--data", str(data), "--json"])
        assert json.loads(verified.stdout)["intact"] is True
        site = Site(load_settings(data=data), store, source.predictor, FakeDestination())
        assert site.seen() == before
        with store.transaction() as session:
            assert session.scalar(text("SELECT count(*) FROM vigil.invitation")) == 0
            assert session.scalar(text("SELECT count(*) FROM vigil.change")) > 0
            newest = session.scalars(select(AuditRow.action).order_by(AuditRow.number.desc())).first()
            assert newest == "backup.restored"
        spool = reception.open_spool(site.settings)
        intake = wiring.open_intake(site.settings, store, spool, Peers(), NodeMeters(site.settings))
        intake.step(LATER)  # finds nothing new
        rescued = wiring.open_reaper(site.settings, store).step()
        assert rescued == 2  # the study and the report that wait

        while site.work():
            pass

        after = site.seen()
        assert {row.state for row in after["studies"]} == {State.SCORED, State.NOT_ASSESSABLE}
        assert {row.status for row in after["deliveries"]} == {DeliveryStatus.DELIVERED}
        assert after["instances"] == before["instances"]
        assert len(site.pacs.sent) == len(set(site.pacs.sent)) == 2  # two reports; nothing of the first again
        with store.transaction() as session:
            audit.verify(session)
            assert session.scalars(select(ScoreRow.attempts)).all().count(0) == 0


def test_the_head_that_a_backup_keeps_is_never_ahead_of_its_trail(
    source: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup takes minutes; the site works meanwhile, and its witness writes every minute."""
    write = saving._save_rows

    def write_slowly(store: Store, draft: Draft) -> saving._Snapshot:
        snapshot = write(store, draft)
        with store.transaction() as session:
            audit.append(session, "study.viewed", actor="ada")
        Witness(store=store, folder=source.settings.data).note()
        return snapshot

    monkeypatch.setattr(saving, "_save_rows", write_slowly)

    save(source.settings, source.store, tmp_path / "made", frozenset())

    with open_bundle(tmp_path / "made") as bundle, bundle.read("configuration/audit.head") as file:
        kept = AuditHead.read(file.read().decode())
        assert kept.number <= AuditHead.read(verify(bundle).head).number


def test_a_head_that_is_ahead_of_the_trail_of_a_backup_raises_no_false_alarm(
    source: Site, saved: Path, tmp_path: Path
) -> None:
    """Backups were made so while their site worked. A trail that was cut looks the same, so it is told."""
    other = copied(saved, tmp_path)
    ahead = AuditHead(number=10_000, hash="a" * 64)
    replaced(other, "configuration/audit.head", f"{ahead}\n".encode())
    with empty_databases(source.store, "backup_ahead") as (new,):
        settings = load_settings(data=tmp_path / "new", database_url=new.url)

        restored = restore(settings, other)

        assert restored.unheld == str(ahead)
        Witness(store=new, folder=settings.data).note()
        with new.transaction() as session:
            row = session.scalars(select(AuditRow).order_by(AuditRow.number.desc())).first()
            assert row is not None
            assert row.detail["unheld"] == str(ahead)


def copied(saved: Path, folder: Path) -> Path:
    """A backup that a test may damage."""
    return Path(shutil.copytree(saved, folder / "copied"))


def told(saved: Path, **changed: object) -> None:
    """Let a manifest say something else."""
    manifest = json.loads((saved / MANIFEST).read_text())
    (saved / MANIFEST).write_text(json.dumps(manifest | changed))


def replaced(saved: Path, name: str, content: bytes) -> None:
    """Let a backup hold another file than it was made with."""
    (saved / name).write_bytes(content)
    files = json.loads((saved / MANIFEST).read_text())["files"]
    entry = {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    told(saved, files=[entry if one["name"] == name else one for one in files])


def test_a_backup_with_another_byte_is_refused_before_anything_is_written(
    saved: Path, tmp_path: Path
) -> None:
    damaged = copied(saved, tmp_path)
    with (damaged / "database" / "audit.copy.gz").open("r+b") as file:
        file.seek(40)
        file.write(b"\0\0\0")

    with pytest.raises(BackupError, match=r"database/audit\.copy\.gz .* not what was written"):
        restore(load_settings(data=tmp_path / "data"), damaged)

    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("changed", "error"),
    [({"revision": "9999"}, SchemaAheadError), ({"format": 2}, BackupError), ({"head": 1}, BackupError)],
)
def test_a_backup_of_a_later_release_is_refused(
    saved: Path, tmp_path: Path, changed: dict[str, object], error: type[Exception]
) -> None:
    other = copied(saved, tmp_path)
    told(other, **changed)

    with pytest.raises(error):
        restore(load_settings(data=tmp_path / "data"), other)

    assert not (tmp_path / "data").exists()


def test_no_name_of_a_manifest_leads_out_of_its_folder(saved: Path, tmp_path: Path) -> None:
    other = copied(saved, tmp_path)
    told(other, files=[{"name": "spool/../../outside", "sha256": "0" * 64, "bytes": 0}])

    with pytest.raises(BackupError, match="damaged"):
        restore(load_settings(data=tmp_path / "data"), other)


def test_a_place_that_is_not_empty_is_left_alone(source: Site, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "site.key").write_text("another")
    with pytest.raises(BackupError, match="not empty"):
        restore(load_settings(data=tmp_path / "full"), saved)
    assert (tmp_path / "full" / "site.key").read_text() == "another"

    with pytest.raises(BackupError, match="has a Vigil in it"):
        restore(load_settings(data=tmp_path / "empty", database_url=source.store.url), saved)
    assert [*(tmp_path / "empty").iterdir()] == []

    (tmp_path / "half" / ".restoring").mkdir(parents=True)
    with pytest.raises(BackupError, match="interrupted"):
        restore(load_settings(data=tmp_path / "half"), saved)


def test_a_schema_that_an_upgrade_made_and_nobody_used_makes_way(
    source: Site, saved: Path, tmp_path: Path
) -> None:
    """Compose's `migrate` and the chart's hook run before anybody can restore."""
    with empty_databases(source.store, "backup_migrated") as (new,):
        migrations.upgrade(new)

        restored = restore(load_settings(data=tmp_path / "new", database_url=new.url), saved)

        migrations.require(new)
        with new.transaction() as session:
            assert audit.head(session) == AuditHead.read(restored.head)
            assert session.scalar(text("SELECT count(*) FROM vigil.study")) == 3


def test_a_mounted_volume_that_belongs_to_somebody_else_is_restored_into(
    source: Site, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster gives the group a volume of root's: its mode is not ours to change."""
    data = tmp_path / "volume"
    data.mkdir()
    chmod = Path.chmod

    def refuse(path: Path, mode: int) -> None:
        if path == data:
            raise PermissionError
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", refuse)
    with empty_databases(source.store, "backup_volume") as (new,):
        restore(load_settings(data=data, database_url=new.url), saved)

        assert (data / "site.key").stat().st_mode & 0o777 == 0o600
        assert not (data / DRAFT).exists()


def test_a_key_file_of_another_site_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "other.key").write_text("k" * 64)

    with pytest.raises(BackupError, match="VIGIL_KEY_FILE"):
        restore(load_settings(data=tmp_path / "data", key_file=tmp_path / "other.key"), saved)


def test_one_file_holds_what_a_folder_holds(source: Site, tmp_path: Path) -> None:
    target = tmp_path / "tonight.tar"

    made = save(source.settings, source.store, target, frozenset())

    assert [path.name for path in tmp_path.iterdir()] == ["tonight.tar"]
    assert target.stat().st_mode & 0o777 == 0o600
    with open_bundle(target) as bundle:
        manifest = verify(bundle)
    assert made.files == len(manifest.files)
    assert manifest.missing == 0
    assert not any(entry.name.startswith("spool") for entry in manifest.files)
    with source.store.transaction() as session:
        row = session.scalars(select(AuditRow).order_by(AuditRow.number.desc())).first()
        assert row is not None
        assert (row.action, row.detail["manifest_sha256"]) == ("backup.made", made.sha256)
        audit.verify(session)
    checked = CliRunner().invoke(app, ["restore", str(target), "--check"])
    assert (checked.exit_code, checked.stdout[:7]) == (0, "intact:")


def test_a_timer_makes_a_backup_each_time_and_keeps_some(
    source: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIL_DATABASE_URL", source.store.url)
    command = ["backup", str(tmp_path / "daily.tar"), "--keep", "1", "--json"]
    made = []
    for _ in range(2):
        told = CliRunner().invoke(app, [*command, "--data", str(source.settings.data)])
        assert told.exit_code == 0, told.output
        made.append(json.loads(told.stdout))
        time.sleep(1)  # names count seconds

    assert made[1]["expired"] == [Path(made[0]["path"]).name]
    assert [str(path) for path in tmp_path.iterdir()] == [made[1]["path"]]


def test_what_is_missing_of_the_images_is_counted_with_what_to_do(
    source: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIL_DATABASE_URL", source.store.url)
    command = ["backup", str(tmp_path / "told"), "--include", "results", "--data", str(source.settings.data)]
    file = next(source.settings.results_folder.rglob("*.dcm"))
    content = file.read_bytes()
    file.unlink()
    try:
        made = save(source.settings, source.store, tmp_path / "made", frozenset({Part.RESULTS}))
        told = CliRunner().invoke(app, command)
    finally:
        file.write_bytes(content)

    assert made.missing == 1
    assert "1 files that rows speak of were not there. Make the backup where the node runs" in told.stderr


def test_a_backup_that_was_interrupted_is_gone_on_with(source: Site, tmp_path: Path) -> None:
    wrong = source.settings.results_folder / "no name of ours"
    wrong.write_bytes(b"x")
    parts = frozenset({Part.SPOOL, Part.RESULTS})
    try:
        with pytest.raises(BackupError, match="move it elsewhere"):
            save(source.settings, source.store, tmp_path / "made", parts)
    finally:
        wrong.unlink()
    copied_once = {
        path.name: path.stat().st_mtime_ns for path in (tmp_path / "made.part" / "spool").rglob("*.dcm")
    }
    assert copied_once

    save(source.settings, source.store, tmp_path / "made", parts)

    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "made" / "spool").rglob("*.dcm")}
    assert again == copied_once
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    with open_bundle(tmp_path / "made") as bundle:
        assert verify(bundle).missing == 0


def test_a_backup_that_is_gone_on_with_holds_the_model_that_its_manifest_names(
    source: Site, tmp_path: Path
) -> None:
    first = write_artefact(tmp_path / "first")
    second = write_artefact(tmp_path / "second")
    card = second / "MODEL_CARD.md"
    card.write_bytes(card.read_bytes().swapcase())  # another one, as long
    manifest = json.loads((second / "manifest.json").read_text())
    manifest["files"][card.name] = hashlib.sha256(card.read_bytes()).hexdigest()
    (second / "manifest.json").write_text(json.dumps(manifest))
    wrong = source.settings.results_folder / "no name of ours"
    wrong.write_bytes(b"x")
    parts = frozenset({Part.RESULTS})
    try:
        with pytest.raises(BackupError, match="move it elsewhere"):
            save(source.settings.model_copy(update={"model": first}), source.store, tmp_path / "made", parts)
    finally:
        wrong.unlink()

    save(source.settings.model_copy(update={"model": second}), source.store, tmp_path / "made", parts)

    named = json.loads((tmp_path / "made" / MANIFEST).read_text())["model"]
    assert load_artefact(tmp_path / "made" / "model").sha256 == named


def test_nothing_is_saved_while_studies_are_deleted_nor_over_what_is_there(
    source: Site, tmp_path: Path
) -> None:
    with alone(source.store), pytest.raises(BackupError, match="being deleted"):
        save(source.settings, source.store, tmp_path / "made", frozenset())
    with pytest.raises(BackupError, match="there already"):
        save(source.settings, source.store, tmp_path, frozenset())
    with pytest.raises(BackupError, match="VIGIL_STORE"):
        save(source.settings, source.store, tmp_path / "made", frozenset({Part.STORE}))


def test_a_backup_of_an_older_release_is_upgraded_and_objects_go_to_the_store(
    source: Site, tmp_path: Path
) -> None:
    """Through databases of the site's own server, as many machines have one."""
    with empty_databases(source.store, "backup_older", "backup_new") as (older, new):
        fill_older(older)
        settings = load_settings(data=tmp_path / "old", store=str(tmp_path / "share"))
        keep(FolderStore(tmp_path / "share"), "packs/a/b.tar", [b"pack"])
        made = save(settings, older, tmp_path / "made", frozenset({Part.STORE}))

        migrations.upgrade(new)
        other = load_settings(data=tmp_path / "new", database_url=new.url, store=str(tmp_path / "share2"))
        restored = restore(other, tmp_path / "made")

        migrations.require(new)
        with new.transaction() as session:
            assert session.scalars(text("SELECT key FROM vigil.study")).all() == ["a"]
            assert audit.head(session).number == 2
            session.execute(
                text(
                    "INSERT INTO vigil.study (key, state, received_at, last_instance_at, is_pending)"
                    " VALUES ('b', 'received', now(), now(), false)"
                )
            )
            assert session.scalars(text("SELECT id FROM vigil.study ORDER BY id")).all() == [1, 2]
        assert (made.missing, restored.rows) == (0, made.rows)
        assert (tmp_path / "share2" / "packs" / "a" / "b.tar").read_bytes() == b"pack"


def fill_older(older: Store) -> None:
    """A study with a pack, as a release two migrations ago left it."""
    config = migrations._config()
    with older.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0012")
    with older.transaction() as session:
        session.execute(
            text(
                "INSERT INTO vigil.study (key, state, received_at, last_instance_at, is_pending)"
                " VALUES ('a', 'received', now(), now(), false)"
            )
        )
        session.execute(
            text(
                "INSERT INTO vigil.revision"
                " (study_id, number, content_hash, completed_by, pack, pack_sha256, pack_bytes)"
                " VALUES (1, 1, 'b', 'quiet_period', 'confirmed', 'c', 4)"
            )
        )
        audit.append(session, "study.received", actor="node", study_key="a")
