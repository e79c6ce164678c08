import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.documents import (
    MOST_KEPT,
    ReferenceStudy,
    SiteCalibration,
    Stratum,
    read_document,
    strata_of,
    write_document,
)
from models.errors import DocumentError, NotAssessableError, Reason
from tests.reference_documents import ELSEWHERE, HERE, MODEL, OLDER, document, found


def test_a_group_with_enough_studies_speaks_for_itself() -> None:
    reference = found(document({HERE: 20, OLDER: 50}))

    assert (reference.n, reference.is_fallback, reference.is_small) == (20, False, False)
    assert reference.p_value(1e9) == 1 / 21
    assert reference.p_value(-1) == 1


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


def test_a_site_names_the_reference_of_a_series_or_says_that_there_is_none() -> None:
    calibrated = SiteCalibration(document=document({HERE: 30}), site="north")

    found = calibrated.reference(HERE, MODEL)
    assert found is not None
    assert found.group == HERE
    assert calibrated.reference(HERE, MODEL) is found
    assert SiteCalibration(site="north").reference(HERE, MODEL) is None  # the artefact's own serves
    for number in range(2 * MOST_KEPT):  # whatever headers say, what is kept stays small
        other = calibrated.reference(HERE.model_copy(update={"model_name": f"model {number}"}), MODEL)
        assert other is not None
        assert other.is_fallback
    assert len(calibrated._found) <= MOST_KEPT
    for group, model in ((HERE.model_copy(update={"sequence": "T2"}), MODEL), (HERE, "b" * 64)):
        with pytest.raises(NotAssessableError) as refusal:
            calibrated.reference(group, model)
        assert refusal.value.reason is Reason.UNCALIBRATED
