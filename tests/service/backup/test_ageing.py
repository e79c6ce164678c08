"""Which of many backups go."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from service.backup.ageing import dated, expire
from service.backup.bundle import MANIFEST

AT = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)


def test_the_time_of_a_backup_stands_in_its_name_in_utc() -> None:
    here = AT.astimezone(timezone(timedelta(hours=2)))

    assert dated(Path("/b/vigil.tar"), here) == Path("/b/vigil-2026-11-22T01-00-00Z.tar")
    assert dated(Path("/b/vigil.site"), AT) == Path("/b/vigil.site-2026-11-22T01-00-00Z")


@pytest.mark.parametrize("name", ["vigil.tar", "vigil"])
def test_only_older_backups_of_the_same_name_go(tmp_path: Path, name: str) -> None:
    made = [dated(tmp_path / name, AT + timedelta(days=day)) for day in range(4)]
    others = [tmp_path / "vigil-monday.tar", dated(tmp_path / f"our-{name}", AT), tmp_path / f"{name}.part"]
    for path in (*made, *others):
        if path.suffix == ".tar":
            path.write_bytes(b"backup")
        else:
            path.mkdir()
            (path / MANIFEST).write_text("{}")
    no_backup = dated(tmp_path / "vigil", AT - timedelta(days=1))
    no_backup.mkdir()
    linked = dated(tmp_path / name, AT - timedelta(days=2))
    linked.symlink_to(made[0])

    gone = expire(made[-1], 2)

    assert gone == tuple(path.name for path in made[:2])
    assert {path.name for path in tmp_path.iterdir()} == {
        *(path.name for path in (*made[2:], *others, no_backup, linked))
    }
