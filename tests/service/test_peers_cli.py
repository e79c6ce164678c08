import json
import tarfile
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from dicom_node.errors import UnknownPeerError
from dicom_node.services.probe import RESULT_CLASSES
from service.cli import app
from service.errors import UnknownStudyError
from service.reception import open_spool
from service.settings import Settings
from tests.fakes import archive
from tests.phantoms import Phantom, write

FILE = """
peers:
  - {{name: pacs, aet: ARCHIVE, host: 127.0.0.1, port: {port}, roles: [destination]{more}}}
"""


def run(folder: Path, *arguments: str, port: int = 1, more: str = "") -> tuple[int, str]:
    (folder / "peers.yaml").write_text(FILE.format(port=port, more=more))
    done = CliRunner().invoke(app, [*arguments, "--data", str(folder)])
    if isinstance(done.exception, UnknownPeerError):
        raise done.exception
    return done.exit_code, done.stdout


def test_every_peer_is_listed(tmp_path: Path) -> None:
    code, told = run(tmp_path, "peers", "list", "--json")
    _, table = run(tmp_path, "peers", "list")

    (peer,) = json.loads(told)["peers"]
    assert (code, peer["name"], peer["confirm"]) == (0, "pacs", "none")
    assert "pacs" in table


@pytest.mark.parametrize(
    ("more", "code", "lacking"),
    [
        (", results: [sr]", 0, set()),
        ("", 1, {"result seg", "result sc"}),
        (", results: [sr], confirm: commitment", 1, {"commitment"}),
    ],
)
def test_a_peer_passes_when_it_offers_what_its_profile_needs(
    tmp_path: Path, more: str, code: int, lacking: set[str]
) -> None:
    with archive(tmp_path, contexts=[(RESULT_CLASSES["sr"], (ExplicitVRLittleEndian,))]) as there:
        exit_code, told = run(tmp_path, "peers", "test", "pacs", "--json", port=there.port, more=more)

    document = json.loads(told)
    assert exit_code == code
    assert document["ok"] is (code == 0)
    assert {step["step"] for step in document["steps"] if step["is_needed"] and not step["is_ok"]} == lacking


def test_a_peer_that_is_away_fails(tmp_path: Path) -> None:
    code, told = run(tmp_path, "peers", "test", "pacs")

    assert code == 1
    assert "connection" in told
    assert "FAILED" in told


def test_a_peer_nobody_knows_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownPeerError, match="peers list"):
        run(tmp_path, "peers", "test", "nobody")


def test_a_pull_tells_lines_and_no_accession_numbers(tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("ACC-SECRET\n\nACC-SECRET\nACC-OTHER\n")

    code, told = run(
        tmp_path,
        *("studies", "pull", "--peer", "pacs", "--accession-file", str(tmp_path / "numbers.txt"), "--json"),
    )

    rows = json.loads(told)["studies"]
    assert code == 1
    assert [row["line"] for row in rows] == [1, 2]
    assert all(row["error"] for row in rows)
    assert "ACC" not in told


def test_a_study_is_packed_as_it_came(tmp_path: Path) -> None:
    images = Phantom().datasets()
    spool = open_spool(Settings(data=tmp_path / "data"))
    for path, image in zip(write(tmp_path / "sent", images), images, strict=True):
        spool.store(image.StudyInstanceUID, image.SOPInstanceUID, [path.read_bytes()])
    ((key, _),) = spool.studies()

    code, told = run(tmp_path / "data", "studies", "pack", key, "--out", str(tmp_path / "packs"))

    assert (code, told.strip()) == (0, str(tmp_path / "packs" / f"{key}.tar"))
    with tarfile.open(told.strip()) as packed:
        members = {name: packed.extractfile(name) for name in packed.getnames() if name.endswith(".dcm")}
        read = {name: member.read() for name, member in members.items() if member is not None}
    assert read == {one.file_name: one.path.read_bytes() for one in spool.instances(key)}


@pytest.mark.parametrize("key", ["nobody", "a" * 20])
def test_a_study_that_is_not_here_is_said_so(tmp_path: Path, key: str) -> None:
    (tmp_path / "data").mkdir()
    done = CliRunner().invoke(
        app, ["studies", "pack", key, "--out", str(tmp_path), "--data", str(tmp_path / "data")]
    )

    assert isinstance(done.exception, UnknownStudyError)
