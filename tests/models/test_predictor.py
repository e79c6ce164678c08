import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.catalogue import active_artefact
from models.documents import Stratum
from models.errors import NoNumberError, NotAssessableError, Reason
from models.evaluation.dataset import read_data_record, read_nifti
from models.evaluation.lesions import add_lesion
from models.predictor import Predictor
from models.scores import Scores
from models.volume import Volume
from tests.fakes import Wordless
from tests.reference_documents import HERE, document
from tests.reference_documents import found as reference_of

Brain = Callable[..., Volume]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(active_artefact())


@pytest.fixture(scope="module")
def scores(predictor: Predictor, brain: Brain) -> Scores:
    return predictor.predict(brain())


def fingerprint(scores: Scores) -> str:
    digest = hashlib.sha256(scores.map.tobytes())
    digest.update(repr((scores.study_score, scores.p_value, scores.heads, scores.regions)).encode())
    return digest.hexdigest()


def test_map_lies_on_the_grid_of_the_source_between_zero_and_one(scores: Scores, brain: Brain) -> None:
    assert scores.map.shape == brain().voxels.shape
    assert scores.map.dtype == np.float32
    assert scores.map.min() >= 0
    assert scores.map.max() <= 1
    assert scores.map[brain().voxels == 0].sum() == pytest.approx(0, abs=1e-3 * float(scores.map.sum()))


def test_scores_name_the_model_and_its_reference_group(predictor: Predictor, scores: Scores) -> None:
    artefact = active_artefact()

    assert scores.model == predictor.identity
    assert scores.model.sha256 == artefact.sha256
    assert scores.model.n >= 1
    assert scores.model.disclaimer == artefact.manifest.disclaimer
    assert set(scores.heads) == set(artefact.manifest.heads)
    assert 1 / (scores.model.n + 1) <= scores.p_value <= 1


def test_same_volume_gives_the_same_bytes(predictor: Predictor, scores: Scores, brain: Brain) -> None:
    again = Predictor.load(active_artefact())

    assert fingerprint(predictor.predict(brain())) == fingerprint(scores)
    assert fingerprint(again.predict(brain())) == fingerprint(scores)


@pytest.mark.parametrize("contrast_sd", [-2, 2])
def test_large_lesion_raises_the_score_and_is_where_the_map_says(
    predictor: Predictor, scores: Scores, brain: Brain, contrast_sd: float
) -> None:
    centre = (28.0, -25.0, 35.0)
    changed, mask = add_lesion(brain(), diameter_mm=30, contrast_sd=contrast_sd, centre_mm=centre)

    found = predictor.predict(changed)

    assert found.study_score > scores.study_score
    gain = found.map - scores.map
    assert gain[mask].mean() > 5 * abs(gain[~mask]).mean()


def test_regions_are_above_the_lowest_band_largest_peak_first(predictor: Predictor, brain: Brain) -> None:
    changed, _ = add_lesion(brain(), diameter_mm=30, contrast_sd=3, centre_mm=(28.0, -25.0, 35.0))

    found = predictor.predict(changed)

    peaks = [region.peak for region in found.regions]
    assert peaks
    assert peaks == sorted(peaks, reverse=True)
    assert min(peaks) >= found.bands[0]
    assert min(region.volume_mm3 for region in found.regions) >= predictor.manifest.min_region_mm3
    first = found.regions[0]
    assert found.map[first.slice_index].max() == pytest.approx(first.peak)


def test_volume_outside_the_card_is_not_scored(predictor: Predictor) -> None:
    volume = Volume(voxels=np.zeros((60, 60, 60), np.float32), spacing_mm=(2, 2, 2), affine=np.eye(4))

    with pytest.raises(NotAssessableError) as refusal:
        predictor.predict(volume)

    assert refusal.value.reason is Reason.CONSTANT_PIXELS


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("output", "at"), [("elbo", 0), ("denoised_residual", (0, 0, 0, 0))])
def test_a_network_that_gives_no_number_scores_nothing(
    predictor: Predictor, brain: Brain, value: float, output: str, at: object
) -> None:
    """One slice's number, or one voxel beside the brain."""
    wordless = Wordless(predictor.runner, output, value, at)

    with pytest.raises(NoNumberError, match="no number"):
        predictor.through(wordless).predict(brain())


def test_a_map_that_overflows_when_it_is_standardised_is_no_calm_brain(
    predictor: Predictor, brain: Brain
) -> None:
    lowest = float(np.finfo(np.float32).min)  # minus a mean and by a deviation below 1: past the last number
    wordless = predictor.runner
    for output in predictor.runner.outputs:
        wordless = Wordless(wordless, output, lowest)

    with pytest.raises(NoNumberError, match="no number"):
        predictor.through(wordless).predict(brain())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_hold_numbers_alone(scores: Scores, value: float) -> None:
    broken = scores.map.copy()
    broken[-1, -1, -1] = value

    with pytest.raises(NoNumberError):
        replace(scores, map=broken)
    with pytest.raises(NoNumberError):
        replace(scores, study_score=value)


def test_an_image_of_another_kind_is_not_scored_whatever_its_header_says(
    predictor: Predictor, brain: Brain
) -> None:
    volume = brain()
    inverted = np.where(volume.voxels > 0, volume.voxels.max() + 20 - volume.voxels, 0)

    with pytest.raises(NotAssessableError) as refusal:
        predictor.predict(replace(volume, voxels=inverted.astype(np.float32)))

    assert refusal.value.reason is Reason.UNLIKE_TRAINING


def test_a_reference_of_the_site_takes_the_place_of_the_artefact_s(
    predictor: Predictor, scores: Scores, brain: Brain
) -> None:
    assert scores.peak is not None
    drawn = np.sort(np.random.default_rng(0).normal(size=400))
    below = drawn - drawn.max() + scores.study_score - 0.01
    stratum = Stratum(
        group=HERE,
        scores=tuple(below.tolist()),
        maxima=tuple([scores.peak * 2] * 380 + [scores.peak * 4] * 20),
    )

    found = predictor.against(reference_of(document({}, strata=(stratum,)))).predict(brain())

    assert (found.study_score, found.peak) == (scores.study_score, scores.peak)
    assert found.p_value == 1 / 401
    assert found.tail is not None
    assert found.tail <= found.p_value
    assert (found.model.group, found.model.n, found.model.sha256) == (HERE.label, 400, scores.model.sha256)
    # At most 20 of 401 normals reach above four times the peak: nothing of this study is highlighted.
    assert found.map.max() == pytest.approx(1 / 12, rel=1e-5)
    assert found.regions == ()
    assert predictor.predict(brain()).model == scores.model


def stored_otherwise(volume: Volume) -> dict[str, Volume]:
    """The same measurement as other scanners and routes would store it."""
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, volume.voxels.shape[0] - 1
    reversed_order = replace(
        volume, voxels=np.ascontiguousarray(volume.voxels[::-1]), affine=volume.affine @ flip
    )
    sagittal = replace(
        volume,
        voxels=np.ascontiguousarray(volume.voxels.transpose(2, 0, 1)),
        affine=volume.affine[:, [2, 0, 1, 3]],
        spacing_mm=(volume.spacing_mm[2], volume.spacing_mm[0], volume.spacing_mm[1]),
    )
    top = float(volume.voxels.max())
    uint16 = np.rint(volume.voxels / top * 4095).astype(np.uint16)
    return {
        "reversed": reversed_order,
        "sagittal": sagittal,
        "scaled": replace(volume, voxels=volume.voxels * np.float32(0.37)),
        "uint16": replace(volume, voxels=uint16.astype(np.float32)),
    }


@pytest.mark.parametrize("route", ["reversed", "sagittal", "scaled", "uint16"])
def test_storage_does_not_change_the_score(
    predictor: Predictor, scores: Scores, brain: Brain, route: str
) -> None:
    found = predictor.predict(stored_otherwise(brain())[route])

    assert found.study_score == pytest.approx(scores.study_score, rel=2e-2 if route == "uint16" else 1e-3)


@pytest.mark.slow
def test_real_volume_scores_the_same_whatever_its_storage(predictor: Predictor, test_data: Path) -> None:
    folder = test_data / "brain-mri-t1"
    volume = read_nifti(folder / read_data_record(folder).of_role("selection")[0].file)
    expected = predictor.predict(volume).study_score

    for found in stored_otherwise(volume).values():
        assert predictor.predict(found).study_score == pytest.approx(expected, rel=2e-2)
