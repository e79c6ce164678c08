import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from models.artefact import CARD, MANIFEST, NETWORK
from models.catalogue import active_artefact, list_records
from models.errors import DatasetError, RecordError
from service import cli, models_cli
from service.cli import EXIT_REMEDY, app
from service.errors import TriageError
from tests.phantoms import Phantom, write
from tests.picture_models import SIZE, write_artefact

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures with a manifest: grey normals, and abnormal ones with a white square."""
    place = tmp_path / "squares"
    place.mkdir()
    rng = np.random.default_rng(0)
    rows = ["file,patient,split,label,finding"]
    for i in range(24):
        image = rng.integers(110, 140, SIZE)
        is_abnormal = i >= 18
        if is_abnormal:
            image[4:8, 4:8] = 255
        Image.fromarray(image.astype(np.uint8)).save(place / f"{i}.png")
        split = "train" if i < 12 else "val"
        rows.append(f"{i}.png,p{i},{split},{int(is_abnormal)},{'square' if is_abnormal else ''}")
    (place / "manifest.csv").write_text("\n".join(rows) + "\n")
    return place


def test_sound_artefacts_are_verified_one_line_each(tmp_path: Path) -> None:
    grey = write_artefact(tmp_path / "grey")

    done = runner.invoke(app, ["models", "verify", str(grey), str(active_artefact().path)])

    assert done.exit_code == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("grey: ok")
    assert second.startswith(f"{active_artefact().path.name}: ok")


def test_one_bad_artefact_fails_the_check_and_does_not_hide_the_others(tmp_path: Path) -> None:
    bad = write_artefact(tmp_path / "bad")
    good = write_artefact(tmp_path / "good")
    with (bad / NETWORK).open("ab") as stream:
        stream.write(b"\0")

    done = runner.invoke(app, ["models", "verify", str(bad), str(good)])

    assert done.exit_code == 1
    first, second = done.stdout.splitlines()
    assert NETWORK in first
    assert second.startswith("good: ok")


def test_card_is_printed_as_it_is(tmp_path: Path) -> None:
    grey = write_artefact(tmp_path / "grey")

    done = runner.invoke(app, ["models", "card", str(grey)])

    assert done.stdout.rstrip() == (grey / CARD).read_text().rstrip()


def test_every_shipped_record_is_listed() -> None:
    done = runner.invoke(app, ["models", "list", "--json"])

    assert done.exit_code == 0
    listed = json.loads(done.stdout)["records"]
    assert [row["record"] for row in listed] == [record.id for record in list_records()]
    by_id = {row["record"]: row for row in listed}
    assert "V5" in by_id["v5-cevae"]["covers"]
    assert by_id["cevae-t1"]["family"] == "volumes"


def test_list_for_people_holds_the_same_records() -> None:
    done = runner.invoke(app, ["models", "list"])

    assert done.exit_code == 0
    assert "v5-cevae" in done.stdout


def test_evaluation_writes_rows_and_a_report(folder: Path, tmp_path: Path) -> None:
    grey = write_artefact(tmp_path / "grey")
    rows, report = tmp_path / "new" / "rows.json", tmp_path / "report"

    done = runner.invoke(
        app,
        [
            "models",
            "evaluate",
            f"--artefact={grey}",
            f"--data={folder}",
            f"--json={rows}",
            f"--report={report}",
        ],
        catch_exceptions=False,
    )

    assert done.exit_code == 0
    found = json.loads(rows.read_text())
    assert found["data"] == folder.name
    aurocs = [
        row["value"]
        for row in found["rows"]
        if row["metric"] == "image_auroc" and row["artefact"].startswith("grey") and not row.get("scorer")
    ]
    assert aurocs
    assert set(aurocs) == {1.0}
    assert list(report.iterdir())


def test_models_of_both_kinds_are_not_evaluated_together(folder: Path, tmp_path: Path) -> None:
    grey, shipped = write_artefact(tmp_path / "grey"), active_artefact().path

    done = runner.invoke(
        app,
        ["models", "evaluate", "--artefact", str(grey), "--artefact", str(shipped), "--data", str(folder)],
    )

    assert isinstance(done.exception, DatasetError)


def test_volume_models_have_no_tasks_of_classes(folder: Path) -> None:
    shipped = active_artefact().path

    done = runner.invoke(
        app,
        ["models", "evaluate", "--artefact", str(shipped), "--data", str(folder), "--task", "boots"],
    )

    assert isinstance(done.exception, DatasetError)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_training_ends_with_an_artefact_whose_folder_is_printed(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is installed for making models alone")
    out = tmp_path / "out"
    arguments = ["--data", str(folder), "--out", str(out), "--seed", "1"]

    done = runner.invoke(app, ["models", "train", "b1-intensity", *arguments], catch_exceptions=False)

    assert done.exit_code == 0
    made = Path(done.stdout.splitlines()[-1])
    assert (made / MANIFEST).is_file()
    (run,) = (out / "runs").iterdir()
    again = runner.invoke(
        app, ["models", "export", str(run), "--out", str(tmp_path / "again")], catch_exceptions=False
    )
    assert (Path(again.stdout.splitlines()[-1]) / NETWORK).read_bytes() == (made / NETWORK).read_bytes()


def test_options_of_pictures_are_refused_for_a_record_of_volumes(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is installed for making models alone")

    done = runner.invoke(
        app,
        ["models", "train", "cevae-t1", "--data", str(folder), "--out", str(tmp_path), "--task", "boots"],
    )

    assert isinstance(done.exception, RecordError)


def test_missing_extra_is_named_with_its_remedy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "models.making", None)  # as where torch is not installed

    done = runner.invoke(app, ["models", "train", "v5-cevae", "--data", str(folder), "--out", str(tmp_path)])

    assert isinstance(done.exception, TriageError)
    assert "vigil-triage[making]" in str(done.exception)


def test_what_a_person_can_mend_is_one_line_and_exit_code_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vigil", "models", "card", str(tmp_path)])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == EXIT_REMEDY
    (line,) = capsys.readouterr().err.splitlines()
    assert MANIFEST in line


def test_folder_of_dicom_files_is_read_as_its_largest_series(tmp_path: Path) -> None:
    write(tmp_path / "study", Phantom().datasets())

    volume = models_cli._read_series(tmp_path / "study")

    assert len(volume.voxels) == len(Phantom().datasets())


def test_folder_without_a_series_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(DatasetError, match="empty"):
        models_cli._read_series(tmp_path / "empty")
