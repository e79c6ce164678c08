"""The units for a site without containers: systemd reads them, and none opens more than another."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.supervisor import STOP_TIMEOUT_S
from tests.documents.command_line import fault_of, options_of
from tests.documents.pages import Command

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "deploy" / "systemd").iterdir())
BACKUP = ROOT / "deploy" / "systemd" / "vigil-backup.service"
UNITS = [path for path in FILES if path.suffix == ".service" and path != BACKUP]
# What a role has of its own; each of these has a test.
OF_THE_ROLE = re.compile(
    r"^(#.*|Description=.*|ExecStart=.*|EnvironmentFile=-.*|TimeoutStopSec=.*)\n", re.MULTILINE
)
# Besides all roles, `vigil up` stops its database.
OF_THE_DATABASE_S = 30

each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)


@pytest.mark.parametrize("unit", FILES, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    text = re.sub(r"^(User|Group)=.*\n", "", unit.read_text(), flags=re.MULTILINE)  # not on this machine
    (tmp_path / unit.name).write_text(text.replace("/opt/vigil/bin/vigil", "/bin/true"))
    if unit.suffix == ".timer":  # systemd looks for what it starts
        (tmp_path / f"{unit.stem}.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")

    told = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / unit.name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (told.returncode, told.stderr) == (0, "")  # an unknown key is told, and no error


@each_unit
def test_a_unit_starts_a_role_that_there_is(unit: Path) -> None:
    (command,) = re.findall(r"^ExecStart=/opt/vigil/bin/vigil (.*)$", unit.read_text(), re.MULTILINE)

    assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0


@each_unit
def test_a_unit_gives_its_role_the_time_that_it_takes(unit: Path) -> None:
    (given_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)

    assert int(given_s) >= STOP_TIMEOUT_S + (OF_THE_DATABASE_S if unit.stem == "vigil" else 0)


@each_unit
def test_only_the_program_itself_is_told_to_stop(unit: Path) -> None:
    """It tells its own processes; a second SIGTERM from systemd would mean that jobs in hand are left."""
    assert re.findall(r"^KillMode=(.*)$", unit.read_text(), re.MULTILINE) == ["mixed"]


def test_one_machine_and_many_have_their_units() -> None:
    started = [re.search(r"^ExecStart=\S+ (\w+)", unit.read_text(), re.MULTILINE)[1] for unit in UNITS]  # type: ignore[index]

    assert sorted(started) == ["api", "node", "up", "worker", "worker", "worker"]


def test_each_worker_of_a_machine_may_have_a_gpu_and_a_port_of_its_own() -> None:
    """What the file of an instance says counts over what all have in common."""
    (unit,) = [unit for unit in UNITS if unit.stem == "vigil-infer@"]
    files = re.findall(r"^EnvironmentFile=(.*)$", unit.read_text(), re.MULTILINE)
    page = (ROOT / "docs" / "scale-out.md").read_text(encoding="utf-8")

    assert files == ["/etc/vigil/vigil.env", "-/etc/vigil/infer-%i.env"]  # the last one counts
    assert "`/etc/vigil/infer-1.env`" in page
    for variable in ("CUDA_VISIBLE_DEVICES", "VIGIL_WORKER_METRICS_PORT"):
        assert variable in page


def test_all_units_are_closed_alike() -> None:
    assert len({OF_THE_ROLE.sub("", unit.read_text()) for unit in UNITS}) == 1
    closed = UNITS[0].read_text().split("CapabilityBoundingSet=\n")[1].split("\n\n")[0]
    writable = next(line for line in closed.splitlines() if line.startswith("ReadWritePaths="))
    assert closed.replace(writable, f"{writable} /srv/backup") in BACKUP.read_text()


def test_the_nightly_backup_is_a_call_of_vigil_that_lets_old_ones_go() -> None:
    (line,) = re.findall(r"^ExecStart=/opt/vigil/bin/(.*)$", BACKUP.read_text(), re.MULTILINE)

    command = Command(where=BACKUP.name, words=tuple(shlex.split(line)), is_mention=False)
    assert fault_of(command) is None
    assert "--keep" in options_of(command)


def test_a_page_names_every_unit_and_the_file_that_they_read() -> None:
    several, one = (
        (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("scale-out", "administrator")
    )

    for unit in UNITS:
        assert (f"`{unit.name}`" in one) if unit.stem == "vigil" else (f"`{unit.stem}`" in several)
        assert "EnvironmentFile=/etc/vigil/vigil.env" in unit.read_text()
    assert "cat >/etc/vigil/vigil.env" in several
    assert "cat >/etc/vigil/vigil.env" in one
