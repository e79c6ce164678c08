"""Backups that are made again and again under one name: each has its time in it, and old ones go."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from service.backup.bundle import MANIFEST

_TIME = "%Y-%m-%dT%H-%M-%SZ"
_WRITTEN = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ"


def dated(target: Path, at: datetime) -> Path:
    """Name of a backup with its time, in UTC: ``vigil.tar`` becomes ``vigil-2026-11-22T01-00-00Z.tar``."""
    suffix = target.suffix if target.suffix == ".tar" else ""
    return target.with_name(f"{target.name.removesuffix(suffix)}-{at.astimezone(UTC):{_TIME}}{suffix}")


def expire(newest: Path, keep: int) -> tuple[str, ...]:
    """Remove older backups of the same name until so many are left; return the names of what went.

    What is no backup, has another name, or leads elsewhere is left alone.

    Parameters
    ----------
    newest : Path
        As `dated` names it.
    keep : int
        At least 1.
    """
    family = re.sub(_WRITTEN, lambda _: _WRITTEN, re.escape(newest.name).replace(r"\-", "-"))
    found = sorted(
        path for path in newest.parent.iterdir() if re.fullmatch(family, path.name) and _is_one(path)
    )
    gone = found[:-keep]
    for path in gone:
        if path.is_dir():
            (path / MANIFEST).unlink()  # first: what is left of it by a kill is no backup
            shutil.rmtree(path)
        else:
            path.unlink()
    return tuple(path.name for path in gone)


def _is_one(path: Path) -> bool:
    if path.is_symlink():
        return False
    return (path / MANIFEST).is_file() if path.is_dir() else path.suffix == ".tar"
