import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from models.calibration import Calibration
from models.documents import (
    CalibrationDocument,
    ReferenceStudy,
    SiteCalibration,
    Stratum,
    read_document,
    strata_of,
    write_document,
)
from models.errors import DocumentError, NotAssessableError, Reason
from models.groups import Group
from models.references import Reference
from models.scores import ModelIdentity
from models.volume import Acquisition

MODEL = "a" * 64
HERE = Group(
    modality="MR",
    body_part="BRAIN",
    sequence="T1",
    manufacturer="SIEMENS",
    model_name="SKYRA",
    age_band="40-59",
    site="north",
)
OLDER = HERE.model_copy(update={"age_band": "60-79"})
ELSEWHERE = HERE.model_copy(update={"manufacturer": "GE", "model_name": "SIGNA", "site": "south"})


def document(sizes: dict[Group, int], **more: object) -> CalibrationDocument:
    """A document with as many reference studies in each group as said, scored 0, 1, 2 and so on."""
    content = {
        "version": 1,
        "model_sha256": MODEL,
        "made_on": date(2026, 3, 4),
        "author": "a physicist",
        "reason": "commissioning",
        "least": 20,
        "strata": tuple(
            Stratum(group=group, scores=tuple(map(float, range(n))), maxima=tuple(map(float, range(n))))
            for group, n in sizes.items()
        ),
    }
    return CalibrationDocument.model_validate(content | more)


def found(made: CalibrationDocument, group: Group = HERE) -> Reference:
    reference = made.reference(group)
    assert reference is not None
    return reference


def test_a_group_with_enough_studies_speaks_for_itself() -> None:
    reference = found(document({HERE: 20, OLDER: 50}))

    assert (reference.n, reference.is_fallback, reference.is_small) == (20, False, False)
    assert reference.standing(1e9).p_value == 1 / 21
    assert reference.standing(-1).p_value == 1


def test_a_small_group_falls_back_to_the_nearest_that_is_large_enough_and_says_so() -> None:
    reference = found(document({HERE: 19, OLDER: 1, ELSEWHERE: 500}))

    assert reference.n == 20
    assert reference.group == HERE.model_copy(update={"site": None, "age_band": None})
    assert reference.is_fallback
    assert reference.label == "MR, BRAIN, T1, SIEMENS, SKYRA (wider than the study's own, " + HERE.label + ")"


def test_where_no_group_is_large_enough_the_widest_speaks_and_is_marked_small() -> None:
    reference = found(document({HERE: 3, ELSEWHERE: 4}))

    assert reference.n == 7
    assert reference.is_small
    assert reference.label.endswith("; small)")


def test_another_sequence_is_never_compared_with() -> None:
    flair = HERE.model_copy(update={"sequence": "FLAIR"})

    assert document({flair: 500}).reference(HERE) is None


def test_a_scanner_that_must_be_commissioned_is_not_calibrated_until_it_is() -> None:
    strict = document({ELSEWHERE: 500}, alike=("modality", "sequence", "manufacturer", "model_name"))

    assert strict.reference(HERE) is None
    assert strict.reference(ELSEWHERE) is not None


def test_the_tail_orders_what_the_p_value_cannot_and_never_replaces_it() -> None:
    scores = np.sort(np.random.default_rng(0).normal(size=1000))
    strata = (Stratum(group=HERE, scores=tuple(scores.tolist())),)
    reference = found(document({}, strata=strata))
    high, higher = (reference.standing(float(scores[-1]) + step) for step in (0.1, 1.0))

    assert high.p_value == higher.p_value == 1 / 1001
    assert high.tail is not None
    assert higher.tail is not None
    assert higher.tail < high.tail <= high.p_value
    assert sorted([high, higher], key=lambda one: one.order) == [higher, high]


def test_equal_p_values_without_a_tail_are_ordered_by_score() -> None:
    reference = found(document({HERE: 20}))

    assert reference.standing(30.0).tail is None
    assert reference.standing(40.0).order < reference.standing(30.0).order < reference.standing(0.0).order


def test_it_stands_in_for_the_calibration_of_an_artefact() -> None:
    made = document({HERE: 39})
    base = Calibration(
        format=1,
        group="far away",
        calibrated_on=date(2020, 1, 1),
        scores=(5.0,),
        levels={"a": 2.0},
        display_max=1.0,
        bands=(0.1, 0.2, 0.3),
        band_rule="by hand",
    )

    calibration = found(made).calibration(base)

    assert (calibration.group, calibration.n, calibration.levels) == (HERE.label, 39, {"a": 2.0})
    # Two of forty places are beyond the second highest maximum, 37: a rate of 0.05.
    assert calibration.display_max == 3 * 37.0
    assert np.float32(37.0) / np.float32(calibration.display_max) < calibration.bands[0]
    assert "at most 0.05 of normals" in calibration.band_rule


def test_without_maps_the_bands_of_the_artefact_stay() -> None:
    made = document({}, strata=(Stratum(group=HERE, scores=(1.0,)),))
    base = Calibration(
        format=1,
        group="far away",
        calibrated_on=date(2020, 1, 1),
        scores=(5.0,),
        levels={"a": 2.0},
        display_max=1.0,
        bands=(0.1, 0.2, 0.3),
        band_rule="by hand",
    )

    assert found(made).calibration(base).bands == base.bands


def test_every_number_names_document_group_size_and_day() -> None:
    made = document({HERE: 20})
    artefact = ModelIdentity(
        name="m",
        version="1",
        sha256=MODEL,
        calibration_sha256="b" * 64,
        calibrated_on=date(2020, 1, 1),
        group="far away",
        n=6,
        disclaimer="no",
    )

    identity = found(made).identify(artefact)

    assert (identity.sha256, identity.calibration_sha256) == (MODEL, made.sha256)
    assert (identity.group, identity.n, identity.calibrated_on) == (HERE.label, 20, date(2026, 3, 4))


def test_a_written_document_is_read_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "calibration-1.json"
    made = document({HERE: 20}, replaces="c" * 64)

    write_document(path, made)

    assert read_document(path) == made
    assert read_document(path).sha256 == made.sha256


def test_a_document_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration-1.json"
    write_document(path, document({HERE: 20}))
    content = json.loads(path.read_text())
    content["strata"][0]["scores"][0] = -1.0
    path.write_text(json.dumps(content))

    with pytest.raises(DocumentError, match="changed after it was made"):
        read_document(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 3}', "[" * 100_000])
def test_what_is_no_document_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "calibration-1.json"
    with pytest.raises(DocumentError, match=r"calibration-1\.json"):
        read_document(path)
    path.write_text(content)

    with pytest.raises(DocumentError, match=r"calibration-1\.json"):
        read_document(path)


@pytest.mark.parametrize(
    "change",
    [
        {"strata": ()},
        {"author": ""},
        {"model_sha256": "no hash"},
        {"alike": ("colour",)},
        {"strata": (Stratum(group=HERE, scores=(1.0,)),) * 2},
    ],
)
def test_an_impossible_document_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        document({HERE: 20}, **change)


@pytest.mark.parametrize("scores", [(), (2.0, 1.0), (float("nan"),), (float("inf"),)])
def test_impossible_scores_are_refused(scores: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        Stratum(group=HERE, scores=scores)


def test_studies_are_sorted_into_their_groups() -> None:
    strata = strata_of(
        [
            ReferenceStudy(group=HERE, score=2.0, peak=0.5, looks={"noise": 0.1, "odd": 1.0}),
            ReferenceStudy(group=OLDER, score=7.0),
            ReferenceStudy(group=HERE, score=1.0, peak=0.4, looks={"noise": 0.3}),
        ]
    )

    assert {stratum.group: stratum.scores for stratum in strata} == {HERE: (1.0, 2.0), OLDER: (7.0,)}
    assert {stratum.group: stratum.maxima for stratum in strata} == {HERE: (0.4, 0.5), OLDER: ()}
    assert {stratum.group: stratum.looks for stratum in strata} == {HERE: {"noise": (0.1, 0.3)}, OLDER: {}}


def test_images_far_from_those_of_the_reference_are_unlike_them() -> None:
    looks = {"noise": tuple(0.01 * i for i in range(1, 21)), "pixel_mm": (0.5,) * 20}
    stratum = Stratum(group=HERE, scores=tuple(map(float, range(20))), looks=looks)
    reference = found(document({}, strata=(stratum,)))

    reference.check_looks({"noise": 0.3, "pixel_mm": 0.51})  # 0.01 to 0.20 is a range of 0.19
    for far in ({"noise": 0.5}, {"pixel_mm": 0.9}):
        with pytest.raises(NotAssessableError) as refusal:
            reference.check_looks(far)
        assert refusal.value.reason is Reason.UNLIKE_TRAINING


def test_few_reference_studies_refuse_nobody_for_their_looks() -> None:
    stratum = Stratum(group=HERE, scores=(1.0, 2.0), looks={"noise": (0.1, 0.1)})

    found(document({}, strata=(stratum,))).check_looks({"noise": 99.0})


def test_a_site_names_the_reference_of_a_series_or_says_that_there_is_none() -> None:
    series = Acquisition(
        modality="MR",
        body_part="BRAIN",
        description="T1",
        manufacturer="Siemens",
        model_name="Skyra",
        age_years=50,
    )
    calibrated = SiteCalibration(document=document({HERE: 30}), site="north")

    assert calibrated.reference(series, MODEL).group == HERE
    for acquisition, model in ((replace(series, description="T2"), MODEL), (series, "b" * 64)):
        with pytest.raises(NotAssessableError) as refusal:
            calibrated.reference(acquisition, model)
        assert refusal.value.reason is Reason.UNCALIBRATED
