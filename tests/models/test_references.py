from datetime import date

import numpy as np
import pytest

from models.calibration import Calibration
from models.documents import Stratum
from models.errors import NotAssessableError, Reason
from models.scores import ModelIdentity, Scores
from tests.reference_documents import HERE, MODEL, document, found

ARTEFACT = ModelIdentity(
    name="m",
    version="1",
    sha256=MODEL,
    calibration_sha256="b" * 64,
    calibrated_on=date(2020, 1, 1),
    group="far away",
    n=6,
    disclaimer="no",
)
BASE = Calibration(
    format=1,
    group="far away",
    calibrated_on=date(2020, 1, 1),
    scores=(5.0,),
    levels={"a": 2.0},
    display_max=1.0,
    bands=(0.1, 0.2, 0.3),
    band_rule="by hand",
)


def test_the_tail_orders_what_the_p_value_cannot_and_never_replaces_it() -> None:
    scores = np.sort(np.random.default_rng(0).normal(size=1000))
    reference = found(document({}, strata=(Stratum(group=HERE, scores=tuple(scores.tolist())),)))
    high, higher = float(scores[-1]) + 0.1, float(scores[-1]) + 1.0

    assert reference.p_value(high) == reference.p_value(higher) == 1 / 1001
    tails = reference.tail_of(high), reference.tail_of(higher)
    assert tails[0] is not None
    assert tails[1] is not None
    assert tails[1] < tails[0] <= 1 / 1001
    assert reference.tail_of(float(np.median(scores))) is None


def test_a_small_reference_has_no_tail() -> None:
    assert found(document({HERE: 20})).tail_of(30.0) is None


def test_scores_are_ordered_by_p_then_by_tail_then_by_the_raw_score() -> None:
    def scores(p_value: float, tail: float | None, score: float) -> Scores:
        return Scores(
            study_score=score,
            p_value=p_value,
            heads={},
            map=np.zeros((1, 1, 1), np.float32),
            bands=(0.1, 0.2, 0.3),
            regions=(),
            model=ARTEFACT,
            tail=tail,
        )

    ordered = [
        scores(0.01, 1e-6, 3.0),
        scores(0.01, 1e-3, 9.0),  # of another group, whose scores run higher
        scores(0.01, None, 2.0),
        scores(0.01, None, 1.0),
        scores(0.5, None, 8.0),
    ]

    assert sorted([ordered[i] for i in (3, 0, 4, 2, 1)], key=lambda one: one.order) == ordered


def test_it_stands_in_for_the_calibration_of_an_artefact() -> None:
    made = document({HERE: 39})

    calibration = found(made).calibration(BASE)

    assert (calibration.group, calibration.n, calibration.levels) == (HERE.label, 39, {"a": 2.0})
    # Two of forty places are beyond the second highest maximum, 37: a rate of 0.05.
    assert calibration.display_max == 3 * 37.0
    assert np.float32(37.0) / np.float32(calibration.display_max) < calibration.bands[0]
    assert "at most 0.05 of normals" in calibration.band_rule


def test_without_maps_the_bands_of_the_artefact_stay() -> None:
    made = document({}, strata=(Stratum(group=HERE, scores=(1.0,)),))

    assert found(made).calibration(BASE).bands == BASE.bands


def test_every_number_names_document_group_size_and_day() -> None:
    made = document({HERE: 20})
    identity = found(made).identify(ARTEFACT)

    assert (identity.sha256, identity.calibration_sha256) == (MODEL, made.sha256)
    assert (identity.group, identity.n, identity.calibrated_on) == (HERE.label, 20, date(2026, 3, 4))


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
