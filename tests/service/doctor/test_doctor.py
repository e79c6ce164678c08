"""A site as it should be; then ten and more ways to break it for real, each with the words that mend it."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import text
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from dicom_node.identity import load_or_make_secret, study_key
from dicom_node.services.probe import RESULT_CLASSES
from models.catalogue import list_artefacts
from service import engine
from service.access import Identity
from service.cli import app
from service.doctor.model import RECORDED, differing
from service.store import Store, audit, census, identities
from service.study import DeliveryStatus, Pool, State
from service.witness import Witness
from tests.certificates import Certificates, make
from tests.end_to_end.peers import free_port
from tests.fakes import FakeArchive, archive
from tests.recorded_examples import recorded
from tests.seeds import Seed, plant

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed"),
]

UID = "1.2.826.0.1.3680043.8.498.77"
PATIENT = "DOCTOR^SECRET"
MB = 1024 * 1024


@dataclass
class Site:
    """A site on this machine, and what its operator may set."""

    folder: Path
    store: Store
    certificates: Certificates
    pacs: FakeArchive
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def put(self, name: str, content: str | bytes) -> Path:
        """Write a file that none but we may read."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o600)
        return path

    def peers(self, **changed: object) -> None:
        pacs: dict[str, object] = {
            "name": "pacs",
            "aet": "ARCHIVE",
            "host": "127.0.0.1",
            "port": self.pacs.port,
            "roles": ["destination"],
            "results": ["sr"],
        }
        (self.data / "peers.yaml").write_text(json.dumps({"peers": [pacs | changed]}))

    def examined(self) -> tuple[int, dict[tuple[str, str], dict[str, str]]]:
        """Exit code, and every check by part and subject."""
        done = CliRunner(env=self.variables).invoke(app, ["doctor", "--json", "--data", str(self.data)])
        assert UID not in done.output
        assert "PASSWORD" not in done.output
        assert PATIENT not in done.output
        document = json.loads(done.stdout)
        assert document["ok"] is (done.exit_code == 0)
        return done.exit_code, {(one["part"], one["about"]): one for one in document["checks"]}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeArchive]:
    folder = tmp_path_factory.mktemp("archive")
    with archive(folder, contexts=[(RESULT_CLASSES["sr"], (ExplicitVRLittleEndian,))]) as there:
        yield there


@pytest.fixture
def site(tmp_path: Path, store: Store, certificates: Certificates, pacs: FakeArchive) -> Site:
    """A site that works: one study, a worker that lives, a trail with its witness, a store, a PACS."""
    site = Site(tmp_path, store, certificates, pacs)
    for folder in (site.data / "spool", site.data / "scratch", tmp_path / "share"):
        folder.mkdir(parents=True, mode=0o700)
    site.data.chmod(0o700)
    secret = load_or_make_secret(site.data / "site.key")
    site.peers()
    key = certificates.key(certificates.node).read_bytes()
    site.variables = {
        "VIGIL_DATABASE_URL_FILE": str(site.put("database.url", store.url)),
        "VIGIL_FREE_MARK_MB": "1",
        "VIGIL_STORE": str(tmp_path / "share"),
        "VIGIL_TLS_CERTIFICATE": str(site.put("node.pem", certificates.node.read_bytes() + key)),
        "VIGIL_TLS_AUTHORITIES": str(certificates.authority),
    }
    with store.transaction() as session:
        plant(session, Seed(name="a"))
        session.execute(text("UPDATE vigil.study SET key = :key"), {"key": study_key(secret, UID)})
        identities.note(session, study_key(secret, UID), whom())
        session.execute(text("INSERT INTO procrastinate_workers DEFAULT VALUES"))
        for name in ("reaper", "node", "api"):
            census.beat(session, name)
    Witness(store=store, folder=site.data).note()
    return site


def whom() -> Identity:
    return Identity(
        name=PATIENT,
        patient_id="P-1",
        issuer="",
        accession_number="A-1",
        birth_date=None,
        age_years=None,
        sex="",
        study_uid=UID,
    )


def test_what_the_shipped_networks_say_is_on_record() -> None:
    assert differing_networks() == [], "run: python -m tests.recorded_examples"


def differing_networks() -> list[str]:
    """Networks whose record is not there, or not what they say."""
    known, found = json.loads(RECORDED.read_text()), json.loads(recorded())
    return [name for name, marks in found.items() if name not in known or differing(known[name], marks)]


def test_a_site_that_works_passes(site: Site) -> None:
    code, checks = site.examined()

    outcomes = {about: check["outcome"] for about, check in checks.items()}
    assert code == 0, [check for check in checks.values() if check["outcome"] == "failed"]
    assert outcomes["database", "schema"] == outcomes["model", "example"] == outcomes["peer", "pacs"] == "ok"
    assert outcomes["store", "object"] == outcomes["audit", "witness"] == outcomes["queue", "workers"] == "ok"
    assert outcomes["secrets", "site key fits"] == outcomes["clock", "database"] == "ok"
    assert outcomes["identity provider", "answers"] == "not used"
    assert checks["certificates", "node"]["outcome"] == "warning"  # the test's hold for two days
    assert [*(site.folder / "share").rglob("probe")] == [*site.data.rglob(".doctor*")] == []


def test_work_that_stands_still_is_told_and_does_not_fail(site: Site) -> None:
    pacs = {"sr": {"pacs": DeliveryStatus.UNDELIVERED}}
    with site.store.transaction() as session:
        plant(session, Seed(name="b", results=pacs), Seed(name="c", state=State.FAILED))
        engine.enqueue(session, Pool.INFER, 1, priority=10)
        session.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
        session.execute(
            text("UPDATE vigil.heartbeat SET at = now() - interval '1 hour' WHERE name = 'reaper'")
        )
        session.execute(text("UPDATE vigil.study SET bytes_are = 'deleting' WHERE id = 1"))

    code, checks = site.examined()

    told = {about: checks["queue", about] for about in ("workers", "stalled", "given up")}
    assert code == 0
    assert {check["outcome"] for check in told.values()} == {"warning"}
    assert told["stalled"]["told"].startswith("1 jobs")
    assert told["given up"]["told"] == "1 studies failed, 1 results undelivered, 0 messages dead"
    assert "vigil studies replay KEY" in told["given up"]["remedy"]
    assert "vigil retention run" in checks["retention", "deletions"]["remedy"]


def a_wrong_setting(site: Site) -> None:
    site.variables["VIGIL_PORT"] = "seventy"


def a_database_that_is_down(site: Site) -> None:
    site.variables["VIGIL_DATABASE_URL_FILE"] = str(
        site.put("database.url", f"postgresql://vigil@127.0.0.1:{free_port()}/vigil")
    )


def an_address_that_is_none(site: Site) -> None:
    site.variables["VIGIL_DATABASE_URL_FILE"] = str(site.put("database.url", "PASSWORD-of-nobody"))


def a_database_that_refuses_its_user(site: Site) -> None:
    with site.store.engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS nobody"))
        connection.execute(text("CREATE ROLE nobody LOGIN"))
    url = make_url(site.store.url).set(username="nobody").render_as_string(hide_password=False)
    site.variables["VIGIL_DATABASE_URL_FILE"] = str(site.put("database.url", url))


def a_secret_that_is_gone(site: Site) -> None:
    site.variables["VIGIL_DATABASE_URL_FILE"] = str(site.folder / "nothing")


def a_disk_below_its_mark(site: Site) -> None:
    free = shutil.disk_usage(site.data).free
    site.variables["VIGIL_FREE_MARK_MB"] = str(free // MB + 1024)


def a_scratch_that_takes_no_files(site: Site) -> None:
    site.variables["VIGIL_SCRATCH"] = str(site.put("scratch", "a file where a folder should be"))


def a_quota_that_is_used_up(site: Site) -> None:
    site.variables["VIGIL_SPOOL_QUOTA_MB"] = "1"
    (site.data / "spool" / ".used").write_text(str(MB))


def a_model_with_another_byte(site: Site) -> None:
    copied = shutil.copytree(list_artefacts()[0], site.folder / "model")
    with (copied / "model.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\0\xff\0\xff")
    site.variables["VIGIL_MODEL"] = str(copied)


def a_certificate_that_ran_out(site: Site) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    begun = datetime(2020, 1, 1, tzinfo=UTC)
    ended = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + timedelta(days=31))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    site.variables["VIGIL_TLS_CERTIFICATE"] = str(site.put("ended.pem", ended.public_bytes(pem) + plain))


def a_key_of_another_certificate(site: Site) -> None:
    key = site.certificates.key(site.certificates.peer).read_bytes()
    site.put("node.pem", site.certificates.node.read_bytes() + key)


def authorities_without_a_certificate(site: Site) -> None:
    del site.variables["VIGIL_TLS_CERTIFICATE"]


def a_pacs_that_is_down(site: Site) -> None:
    site.peers(port=free_port())


def a_pacs_that_calls_itself_otherwise(site: Site) -> None:
    site.peers(aet="OTHER")


def a_pacs_that_takes_no_reports_of_ours(site: Site) -> None:
    site.peers(results=["sr", "seg"])


def a_peers_file_with_a_wrong_field(site: Site) -> None:
    site.peers(role=["destination"])


def a_provider_that_is_away(site: Site) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    site.variables["VIGIL_OIDC"] = str(
        site.put(
            "oidc.yaml",
            json.dumps(
                {"issuer": away, "client_id": "vigil", "address": away, "roles": {"radiologists": "reader"}}
            ),
        )
    )


def a_store_that_is_not_mounted(site: Site) -> None:
    (site.folder / "share").rmdir()


def a_peers_file_that_was_named_and_is_not_there(site: Site) -> None:
    site.variables["VIGIL_PEERS"] = str(site.folder / "elsewhere.yaml")


def a_node_that_died(site: Site) -> None:
    with site.store.transaction() as session:
        session.execute(text("UPDATE vigil.heartbeat SET at = now() - interval '1 hour' WHERE name = 'node'"))


def an_api_that_died(site: Site) -> None:
    with site.store.transaction() as session:
        session.execute(text("UPDATE vigil.heartbeat SET at = now() - interval '1 hour' WHERE name = 'api'"))


def no_node_ever(site: Site) -> None:
    with site.store.transaction() as session:
        session.execute(text("DELETE FROM vigil.heartbeat WHERE name = 'node'"))


def no_worker_alive(site: Site) -> None:
    with site.store.transaction() as session:
        session.execute(text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"))


def only_a_worker_of_deliveries(site: Site) -> None:
    with site.store.transaction() as session:
        session.execute(text("UPDATE procrastinate_workers SET vigil_pools = 'deliver,message'"))


def a_trail_that_was_cut(site: Site) -> None:
    with site.store.transaction() as session:
        for number in range(3):
            audit.append(session, "study.viewed", actor="ada", number=number)
    Witness(store=site.store, folder=site.data).note()
    with site.store.transaction() as session:
        session.execute(text("ALTER TABLE vigil.audit DISABLE TRIGGER ALL"))
        session.execute(text("DELETE FROM vigil.audit WHERE number > 2"))
        session.execute(text("ALTER TABLE vigil.audit ENABLE TRIGGER ALL"))


def a_failed_study_whose_results_stay_in_the_archive(site: Site) -> None:
    with site.store.transaction() as session:
        plant(session, Seed(name="c", state=State.FAILED))
        session.execute(text("UPDATE vigil.score SET retraction = 'failed' WHERE state = 'failed'"))


def a_site_key_that_everybody_reads(site: Site) -> None:
    (site.data / "site.key").chmod(0o644)


def a_site_key_of_another_site(site: Site) -> None:
    (site.data / "site.key").unlink()
    load_or_make_secret(site.data / "site.key")


def a_data_folder_that_is_not_there(site: Site) -> None:
    shutil.rmtree(site.data)


BROKEN: list[tuple[Callable[[Site], None], tuple[str, str], str]] = [
    (a_wrong_setting, ("settings", "values"), "docs/settings.md"),
    (a_database_that_is_down, ("database", "answers"), "VIGIL_DATABASE_URL"),
    (an_address_that_is_none, ("database", "answers"), "postgresql://user@host/name"),
    (a_database_that_refuses_its_user, ("database", "questions"), "own the database"),
    (a_secret_that_is_gone, ("secrets", "VIGIL_DATABASE_URL_FILE"), "readable by the user that runs Vigil"),
    (a_disk_below_its_mark, ("disk", "spool room"), "Free room"),
    (a_scratch_that_takes_no_files, ("disk", "scratch writing"), "VIGIL_SCRATCH"),
    (a_quota_that_is_used_up, ("disk", "quota"), "vigil retention report"),
    (a_model_with_another_byte, ("model", "artefact"), "Restore"),
    (a_certificate_that_ran_out, ("certificates", "node"), "renewed by its authority"),
    (a_key_of_another_certificate, ("certificates", "node serves"), "its own key"),
    (authorities_without_a_certificate, ("certificates", "node serves"), "VIGIL_TLS_CERTIFICATE"),
    (a_pacs_that_is_down, ("peer", "pacs"), "host and port"),
    (a_pacs_that_calls_itself_otherwise, ("peer", "pacs"), "know our AE title VIGIL"),
    (a_pacs_that_takes_no_reports_of_ours, ("peer", "pacs"), "`results`"),
    (a_peers_file_with_a_wrong_field, ("peers", "file"), "Correct the field"),
    (a_provider_that_is_away, ("identity provider", "answers"), "`issuer`"),
    (a_store_that_is_not_mounted, ("store", "folder"), "Mount it"),
    (a_peers_file_that_was_named_and_is_not_there, ("peers", "file"), "nothing starts"),
    (a_node_that_died, ("queue", "node"), "vigil node"),
    (no_node_ever, ("queue", "node"), "vigil node"),
    (an_api_that_died, ("queue", "api"), "vigil api"),
    (no_worker_alive, ("queue", "workers"), "vigil worker --pool infer"),
    (only_a_worker_of_deliveries, ("queue", "workers"), "vigil worker --pool infer"),
    (a_failed_study_whose_results_stay_in_the_archive, ("queue", "taken back"), "Tell the archive"),
    (a_trail_that_was_cut, ("audit", "witness"), "security officer"),
    (a_site_key_that_everybody_reads, ("secrets", "site key"), "chmod 0600"),
    (a_site_key_of_another_site, ("secrets", "site key fits"), "from the backup"),
    (a_data_folder_that_is_not_there, ("disk", "data"), "VIGIL_DATA"),
]


@pytest.mark.parametrize(
    ("break_it", "where", "remedy"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_broken_site_is_told_with_what_mends_it(
    site: Site, break_it: Callable[[Site], None], where: tuple[str, str], remedy: str
) -> None:
    break_it(site)

    code, checks = site.examined()

    assert (code, checks[where]["outcome"]) == (1, "failed")
    assert remedy in checks[where]["remedy"], checks[where]
    assert all(check["remedy"] for check in checks.values() if check["outcome"] in {"failed", "warning"})
