import gzip
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select, update

from service.access import Identity
from service.errors import SettingsError
from service.screening.export import Exporter
from service.store import identities, maps, referrals
from service.store.maps import Curve, StoredMap
from service.store.tables import AuditRow, ScoreRow, StudyRow
from tests.service.screening.conftest import Screened
from tests.whom import told_of

pytestmark = pytest.mark.postgres

UID = "1.2.826.0.1.3680043.8.498.12345"
WORDS = ("DOE", "JANE", "MRN-4711", "ACC-0815", UID, "2026-03-02", "20260302", "SCANNER-OF-DR-ROE", "1970")


def plant_identity(screened: Screened, folder: Path) -> None:
    """Write who it is about wherever a row has room for words."""
    with screened.store.transaction() as session:
        session.execute(
            update(StudyRow).values(
                description="DOE^JANE head", sender="SCANNER-OF-DR-ROE", modality="JANE", detail="JANE DOE"
            )
        )
        session.execute(
            update(ScoreRow).values(
                reference_group="Dr JANE DOE, adults",
                scored_series=UID,
                series=[{"description": "JANE", "key": UID, "is_scored": True}],
                detail="MRN-4711",
            )
        )
        for study_id, key, score_id in session.execute(
            select(StudyRow.id, StudyRow.key, StudyRow.score_id)
        ).all():
            identity = Identity(
                name="DOE^JANE", patient_id="MRN-4711", accession_number="ACC-0815", study_uid=UID,
                birth_date=date(1970, 1, 1),
            )  # fmt: skip
            identities.note_all(session, {study_id: identity})
            referrals.report(session, key, due=date(2026, 3, 2), note="JANE DOE", actor="me")
            if key == screened.keys["odd"]:
                content = gzip.compress(b"map")
                (folder / "odd.nii.gz").write_bytes(content)
                stored = StoredMap(
                    path="odd.nii.gz", sha256="x", bytes=len(content), voxels=3,
                    curve=Curve(peaks=(0.5,), bands=(0.1, 0.2, 0.3)),
                )  # fmt: skip
                maps.put(session, score_id, stored)


def test_nothing_in_an_export_says_whom_it_is_about(screened: Screened, tmp_path: Path) -> None:
    results = screened.objects.root
    results.mkdir()
    plant_identity(screened, results)
    folder = tmp_path / "JANE DOE"

    done = Exporter(store=screened.store, objects=screened.objects, folder=folder).write(
        screened.cohort, actor="me"
    )

    assert (done.studies, done.maps) == (7, 1)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"ranked.csv", "findings.csv", "about.json"}
    secret = [*WORDS, *screened.keys.values(), "Spring"]
    for path in files:
        assert told_of(secret, path.read_bytes().decode("latin-1")) == [], path.name
        assert told_of(secret, str(path.relative_to(folder))) == []


def test_pseudonyms_are_new_each_time_and_lead_from_table_to_map(screened: Screened, tmp_path: Path) -> None:
    screened.objects.root.mkdir()
    plant_identity(screened, screened.objects.root)
    found = []
    for name in ("a", "b"):
        Exporter(store=screened.store, objects=screened.objects, folder=tmp_path / name).write(
            screened.cohort, actor="me"
        )
        lines = (tmp_path / name / "ranked.csv").read_text().splitlines()[1:]
        pseudonyms = [line.split(",")[1] for line in lines]
        assert len(set(pseudonyms)) == 7
        (heatmap,) = (tmp_path / name / "heatmaps").iterdir()
        assert heatmap.name == f"{pseudonyms[0]}.nii.gz"  # of the first rank
        found.append(set(pseudonyms))
    assert found[0].isdisjoint(found[1])
    with screened.store.transaction() as session:
        query = select(AuditRow.detail).where(AuditRow.action == "cohort.exported")
        assert [row["studies"] for row in session.scalars(query)] == [7, 7]


def test_an_export_goes_into_a_folder_of_its_own(screened: Screened, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").touch()
    with pytest.raises(SettingsError, match="not empty"):
        Exporter(store=screened.store, objects=screened.objects, folder=tmp_path / "there").write(
            screened.cohort, actor="me"
        )
