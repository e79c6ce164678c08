"""A worker of the release before beside one of this release, as during an upgrade of many machines.

The rule: where both know the same schema, both work, and a study has one set of results whoever was first.
A release that does not know the database's schema says so and does nothing.
"""

import random
import shutil
import subprocess
import tarfile
import time
from io import BytesIO
from pathlib import Path

from service import __version__
from tests.faults.injections import StrandedRoleError
from tests.faults.places import UnavailableError
from tests.faults.site import ROOT, Site

MIGRATIONS = "service/store/migrations/versions"
BESIDE_S = 8.0
LATER = "9001"


def previous_release(folder: Path) -> Path:
    """Check out what was released before; where nothing was, the commit before this one.

    Raises
    ------
    UnavailableError
        If the history is not at hand.
    """
    tags = _git("tag", "--list", "v*", "--sort=-v:refname", "--merged", "HEAD").split()
    commit = tags[0] if tags else _git("rev-parse", "--verify", "HEAD~1").strip()
    whole = subprocess.run(
        ["git", "archive", commit, "models", "dicom_node", "service"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=BytesIO(whole.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def later_release(folder: Path, *, version: str, statement: str) -> Path:
    """Make a release of this one: another version, and one migration more.

    Parameters
    ----------
    folder : Path
        Is made.
    version : str
    statement : str
        SQL of the migration, whose number is `LATER`.
    """
    folder.mkdir(parents=True)
    for package in ("models", "dicom_node"):
        (folder / package).symlink_to(ROOT / package)
    shutil.copytree(ROOT / "service", folder / "service", ignore=shutil.ignore_patterns("__pycache__"))
    init = folder / "service" / "__init__.py"
    init.write_text(init.read_text().replace(__version__, version))
    newest = max(_schema(ROOT))[:4]
    (folder / MIGRATIONS / f"{LATER}_later.py").write_text(
        "from alembic import op\n"
        f"revision, down_revision = {LATER!r}, {newest!r}\n"
        f"def upgrade() -> None:\n    op.execute({statement!r})\n"
    )
    return folder


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError("The history of this checkout is not at hand (a shallow clone?).")
    return done.stdout


def work_beside_the_previous(site: Site, chance: random.Random, repetitions: int) -> int:
    """Both releases infer and deliver under one load."""
    before = previous_release(site.folder / "previous")
    knows_schema = _schema(before) == _schema(ROOT)
    for _ in range(repetitions):
        with site.worker("infer", code=before) as infer, site.worker("deliver", code=before) as deliver:
            with site.traffic().flowing(chance):
                time.sleep(BESIDE_S)
            codes = [infer.poll(), deliver.poll()]
        if knows_schema and codes != [None, None]:
            raise StrandedRoleError(f"workers of the previous release ended with {codes}")
    return repetitions


def _schema(code: Path) -> set[str]:
    return {path.name for path in (code / MIGRATIONS).glob("[0-9]*.py")}
