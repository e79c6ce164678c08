"""A score made again from its record, by the real worker's parts."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from models.artefact import load_artefact
from models.predictor import AnyPredictor, load_predictor
from models.runtime import PARITY
from service import wiring
from service.provision import Provision
from service.reproduction import TOLERANCE, Reproduced, Reproduction
from service.store import Store
from service.store.records import NoScoreError, record_of
from service.store.tables import AuditRow, InstanceRow, ScoreRow
from service.study import State
from tests.picture_models import write_artefact
from tests.seeds import Seed, plant
from tests.service.test_triage import Site

pytestmark = pytest.mark.postgres

SOFTWARE = {"vigil": "1", "onnxruntime": "2"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artefact(tmp_path_factory.mktemp("artefact") / "grey")


@pytest.fixture(scope="module")
def pictures(folder: Path) -> AnyPredictor:
    return load_predictor(load_artefact(folder), providers=("CPUExecutionProvider",))


@pytest.fixture
def site(store: Store, tmp_path: Path, pictures: AnyPredictor) -> Site:
    site = Site(store, tmp_path, pictures)  # type: ignore[arg-type]
    replace(site.triage, software=SOFTWARE).run(site.score_id)
    return site


@pytest.fixture
def again(site: Site, folder: Path, pictures: AnyPredictor) -> Reproduction:
    artefact = load_artefact(folder)
    return Reproduction(
        store=site.store,
        provision=Provision(spool_folder=site.folder / "spool"),
        artefacts=lambda sha256: artefact if sha256 == artefact.sha256 else None,
        load=lambda _: pictures,
        site="",
        max_voxels=1 << 20,
        software=SOFTWARE,
    )


def found(again: Reproduction, site: Site) -> Reproduced:
    return again.again(site.key, actor="ada")


def codes(of: Reproduced) -> set[str]:
    return {one.what for one in of.differences}


def stored(site: Site, **values: object) -> None:
    with site.store.transaction() as session:
        session.execute(update(ScoreRow).values(**values))


def test_the_record_names_everything_that_the_score_was_made_of(site: Site, pictures: AnyPredictor) -> None:
    with site.store.transaction() as session:
        record = record_of(session, site.key)

    assert record.state is State.SCORED
    assert record.model.sha256 == pictures.identity.sha256
    assert record.calibration_sha256 == pictures.identity.calibration_sha256
    assert (record.provider, record.preprocessing) == ("CPUExecutionProvider", "picture-1")
    assert record.software == SOFTWARE
    files = sorted(file.file_name for file in site.spool.instances(site.key))
    assert [one.number for one in record.instances] == list(range(1, len(files) + 1))
    assert all(one.sha256 for one in record.instances)
    assert set(record.results) >= {"sr"}


def test_the_same_study_gives_the_same_score_and_nothing_but_that_is_stored(
    site: Site, again: Reproduction
) -> None:
    received(site)
    with site.store.transaction() as session:
        before = session.scalars(select(ScoreRow.study_score)).all()

    once = found(again, site)

    assert (once.is_same, once.differences, once.tolerance) == (True, (), TOLERANCE)
    assert once.found == once.recorded
    with site.store.transaction() as session:
        assert session.scalars(select(ScoreRow.study_score)).all() == before
        event = session.scalars(select(AuditRow).order_by(AuditRow.number.desc())).first()
    assert event is not None
    assert (event.action, event.actor, event.detail["same"]) == ("study.replayed", "ada", True)


def received(site: Site) -> None:
    """Let the rows say what the files hold: the site's arrivals have hashes of their own."""
    with site.store.transaction() as session:
        for file in site.spool.instances(site.key):
            session.execute(
                update(InstanceRow)
                .where(InstanceRow.file_name == file.file_name)
                .values(sha256=file.sha256())
            )


def test_other_software_is_told_though_the_score_is_the_same(site: Site, again: Reproduction) -> None:
    received(site)

    other = found(replace(again, software=SOFTWARE | {"onnxruntime": "3"}), site)

    assert (other.is_same, codes(other)) == (True, {"software"})
    assert other.differences[0].text == "onnxruntime: 2, now 3"


def test_another_provider_may_move_the_last_digits_and_no_more(site: Site, again: Reproduction) -> None:
    received(site)
    with site.store.transaction() as session:
        score = session.scalars(select(ScoreRow.study_score)).one()
    assert score is not None
    stored(site, provider="CUDAExecutionProvider", study_score=score + PARITY / 2)
    near = found(again, site)
    stored(site, study_score=score + 2 * PARITY * max(1.0, abs(score)))
    far = found(again, site)

    assert (near.is_same, near.tolerance, codes(near)) == (True, PARITY, {"provider"})
    assert (far.is_same, codes(far)) == (False, {"provider", "score"})


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"study_score": 99.0}, "score"),
        ({"p_value": 0.9}, "percentile"),
        ({"model_hash": "f" * 64}, "model"),
        ({"calibration_hash": "f" * 64}, "calibration"),
        ({"scored_series": "another"}, "series"),
    ],
)
def test_what_differs_is_named(site: Site, again: Reproduction, values: dict[str, object], what: str) -> None:
    received(site)
    stored(site, **values)

    other = found(again, site)

    assert not other.is_same
    assert codes(other) == {what}


def test_changed_bytes_are_named_by_their_instance(site: Site, again: Reproduction) -> None:
    received(site)
    third = sorted(site.spool.instances(site.key), key=lambda file: file.file_name)[2]
    data = bytearray(third.path.read_bytes())
    data[-1] ^= 0xFF
    third.path.chmod(0o600)
    third.path.write_bytes(bytes(data))

    other = found(again, site)

    assert not other.is_same
    assert "instances" in codes(other)
    assert other.differences[0].text.startswith("instance 3 of 6:")


def test_a_study_without_its_files_is_said_to_have_none(site: Site, again: Reproduction) -> None:
    for file in site.spool.instances(site.key):
        file.path.unlink()

    assert codes(found(again, site)) == {"instances"}


def test_a_study_that_nobody_scored_has_no_record(store: Store) -> None:
    with store.transaction() as session:
        plant(session, Seed(name="a", state=State.RECEIVED))
    with store.transaction() as session, pytest.raises(NoScoreError):
        record_of(session, Seed(name="a").key)


def test_the_software_on_record_names_what_runs_the_network() -> None:
    assert {"vigil", "onnxruntime", "numpy", "pydicom"} <= set(wiring.software())
