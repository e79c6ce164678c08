"""The page of several machines, followed word for word: its blocks in order, in one shell a machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.end_to_end.peers import MISSING, free_port
from tests.faults.destinations import CountingStore, counting_store
from tests.faults.traffic import make_study
from tests.picture_models import write_artefact
from tests.site_postgres import PASSWORD, installed, site_server

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scale-out.md").read_text(encoding="utf-8")
# What is run: not what stands under a line that says why it is not.
BLOCKS = re.findall(r"(?<!\*\n)```sh\n# on ([^\n]+)\n(.*?)```", PAGE, re.DOTALL)
MACHINES = ("node1", "work1", "work2", "work3", "scanner-1")
ROLES = (("node1", "node"), ("node1", "deliver"), ("work1", "infer"), ("work2", "infer"), ("work3", "infer"))
END = "end of the block"
STUDIES = 9
DONE_S = 240.0
TOOLS = [tool for tool in ("curl", "openssl", "psql") if shutil.which(tool) is None]

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True)
class Shell:
    """A person's shell on one machine: what a block sets and starts is there for the next."""

    process: subprocess.Popen[str]
    words: dict[str, str]

    def run(self, block: str) -> str:
        """Type a block; return what was printed until its end."""
        for word, replacement in self.words.items():
            block = block.replace(word, replacement)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{block}\necho '{END}'\n")
        self.process.stdin.flush()
        printed = ""
        for line in self.process.stdout:
            if line.rstrip().endswith(END):
                return printed + line.rstrip().removesuffix(END)
            printed += line
        raise AssertionError(f"{block}\n→\n{printed}")


@dataclass(frozen=True, slots=True)
class Site:
    """All machines of the page, which are folders of this one."""

    folder: Path
    shells: dict[str, Shell]
    archive: CountingStore

    def follow(self, machines: str, block: str) -> dict[str, str]:
        """Run a block where it belongs; return what each machine printed."""
        return {name: self.shells[name].run(block) for name in MACHINES if name in machines}

    def log(self, machine: str, role: str) -> str:
        return (self.folder / machine / f"{role}.log").read_text()

    def wait_until_all_work(self) -> None:
        """Return when every role has said that it is ready: the page waits for the API alone."""
        deadline = time.monotonic() + DONE_S
        while waiting := [role for role in ROLES if " ready" not in self.log(*role)]:
            assert time.monotonic() < deadline, waiting
            time.sleep(0.1)

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        """The database as the role that the page made sees it."""
        with psycopg.connect((self.folder / "etc" / "database-url").read_text().strip()) as connection:
            yield connection

    def waiting(self) -> int:
        """Studies and results that have not got where they are to go."""
        with self.database() as connection:
            row = connection.execute(
                "SELECT (SELECT %s - count(*) FROM vigil.study WHERE state = 'scored')"
                " + (SELECT count(*) FROM vigil.delivery WHERE status <> 'delivered')",
                [STUDIES],
            ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    programs = installed()
    if MISSING or TOOLS or programs is None:
        pytest.skip(f"not installed: {', '.join([*MISSING, *TOOLS]) or 'postgresql'}")
    for name in ("bin", "etc", "srv", *MACHINES):
        (tmp_path / name).mkdir(mode=0o700)
    program = tmp_path / "bin" / "vigil"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n')
    program.chmod(0o755)
    write_artefact(tmp_path / "artefact")
    for number in range(STUDIES):
        make_study(tmp_path / "studies", f"scale-{number}", "plain")
    port, api_port = free_port(), free_port()
    with ExitStack() as stack:
        server = stack.enter_context(site_server(programs, tmp_path, superuser="postgres"))
        archive = stack.enter_context(counting_store())
        words = {
            "db1.example.org:5432": f"127.0.0.1:{urlsplit(server).port}",
            "node1.example.org": "127.0.0.1",
            "10.1.2.3": "127.0.0.1",
            "pacs.example.org, port: 104": f"127.0.0.1, port: {archive.port}",
            "0.0.0.0": "127.0.0.1",
            "11112": str(port),
            "8080": str(api_port),
            "/etc/vigil": str(tmp_path / "etc"),
            "/srv/vigil": str(tmp_path / "srv"),
            "ARTEFACT": str(tmp_path / "artefact"),
            "11112 studies": f"{port} {tmp_path / 'studies'}",
            "quiet_s: 60": "quiet_s: 2",
        }
        environment = os.environ | {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PGPASSWORD": PASSWORD,
            "VIGIL_PORT": str(port),
            "VIGIL_API_PORT": str(api_port),
            "VIGIL_LOG_MB": "64",
            "VIGIL_FREE_MARK_MB": "64",
        }
        shells = {}
        for name in MACHINES:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail"],
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            stack.callback(_end, process)
            shells[name] = Shell(process, {"/var/lib/vigil": str(tmp_path / name), **words})
        yield Site(tmp_path, shells, archive)


def _end(shell: subprocess.Popen[str]) -> None:
    """End a shell and all that it started."""
    with shell, suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)


def test_who_follows_the_page_has_a_site_of_several_machines(site: Site) -> None:
    printed: dict[str, dict[str, str]] = {}
    assert len(BLOCKS) + len(re.findall(r"^\*Untried here: .+\*$", PAGE, re.MULTILINE)) == PAGE.count("```sh")

    for machines, block in BLOCKS:
        if block.strip() == "vigil doctor":
            site.wait_until_all_work()
        printed[block.strip()] = site.follow(machines, block)
        if block.startswith("until echoscu"):
            deadline = time.monotonic() + DONE_S
            while site.waiting():
                assert time.monotonic() < deadline, site.log("work1", "infer")[-3000:]
                time.sleep(0.5)

    with site.database() as connection:
        (scored,) = connection.execute("SELECT count(*) FROM vigil.score").fetchall()
        (results,) = connection.execute("SELECT count(*), count(DISTINCT sop_instance_uid) FROM vigil.result")
        (role,) = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    assert (scored, role) == ((STUDIES,), (False,))
    assert results[0] == results[1] == len(site.archive.received)
    assert {len(digests) for digests in site.archive.received.values()} == {1}  # each came once
    examined = [told for block, told in printed.items() if block.endswith("vigil doctor")]
    assert len(examined) == 2
    assert all("0 failed" in told for of_machine in examined for told in of_machine.values()), examined
    counted = next(told for block, told in printed.items() if block.startswith("grep"))
    shares = [int(count) for count in counted.values()]
    assert sum(shares) == STUDIES
    assert sum(share > 0 for share in shares) > 1, shares
    assert len(list((site.folder / "srv" / "store" / "packs").rglob("*.tar"))) == STUDIES
    for machine, role_name in (("node1", "node"), ("work1", "infer"), ("node1", "deliver")):
        assert '"level": "error"' not in site.log(machine, role_name)
    assert list((site.folder / "work1").glob("spool/*")) == []  # studies came through the store
