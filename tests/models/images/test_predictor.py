from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artefact import NETWORK, PictureArtefact, load_artefact, write_manifest
from models.errors import ArtefactError, NoNumberError, NotAssessableError, Reason
from models.images.contract import ImageContract, TakeChannels
from models.images.picture import Picture
from models.images.predictor import PicturePredictor, join_slices
from models.predictor import load_predictor
from models.runtime import BATCH
from models.volume import Volume
from tests.fakes import Wordless
from tests.picture_models import HIGHEST, SCORES, SIZE, manifest, write_artefact, write_network

DISPLAY_MAX = 3 * HIGHEST  # The display ends at three times what any reference person shows.
GREY = 0.5  # Where the network of these tests sees nothing unusual.


def opened(folder: Path) -> PicturePredictor:
    artefact = load_artefact(folder)
    assert isinstance(artefact, PictureArtefact)
    return PicturePredictor.load(artefact)


@pytest.fixture
def predictor(tmp_path: Path) -> PicturePredictor:
    return opened(write_artefact(tmp_path / "grey"))


def picture(value: float, study: str = "one") -> Picture:
    """Grey with one pixel of another value."""
    pixels = np.full((1, *SIZE), GREY, dtype=np.float32)
    pixels[0, 3, 4] = value
    return Picture(
        pixels=pixels,
        mask=np.ones(SIZE, dtype=np.bool_),
        patient=study,
        study=study,
        split="val",
        label=None,
        native_shape=SIZE,
        grid=np.eye(3),
    )


def volume(voxels: NDArray[np.float32], affine: NDArray[np.float64] | None = None) -> Volume:
    """Axial slices from the feet to the head unless another affine is given."""
    if affine is None:
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, ::-1]
    return Volume(voxels=voxels, spacing_mm=(1.0, 1.0, 1.0), affine=affine)


def spotted(slices: int = 5) -> NDArray[np.float32]:
    """Brightness 0 to 1, grey but for a white spot, on a ramp's two ends that fix black and white."""
    voxels = np.full((slices, *SIZE), GREY, dtype=np.float32)
    voxels[0, 0, 0], voxels[0, 0, 1] = 0.1, 0.9
    voxels[2, 6:9, 10:13] = 1.0
    voxels[4, 15, 15] = 0.0
    return voxels


def test_predictor_is_chosen_by_the_format_of_the_artefact(tmp_path: Path) -> None:
    found = load_predictor(load_artefact(write_artefact(tmp_path / "grey")))

    assert isinstance(found, PicturePredictor)
    assert (found.identity.name, found.identity.n, found.identity.group) == ("grey", 3, "three people")


def test_highest_slice_is_the_score_of_a_study(predictor: PicturePredictor) -> None:
    found = predictor.score_pictures([picture(0.6), picture(0.9), picture(0.5)])

    np.testing.assert_allclose(found.images, [0.1, 0.4, 0.0], atol=1e-6)
    assert found.study == pytest.approx(0.4)
    assert found.maps is not None
    assert found.maps.shape == (3, *SIZE)
    assert found.maps[1].argmax() == 3 * SIZE[1] + 4


def test_study_is_scored_alike_alone_and_beside_others(predictor: PicturePredictor) -> None:
    studies = [[picture(0.5 + 0.01 * i, f"{i}")] * (1 + i % 3) for i in range(BATCH)]

    together = predictor.score_studies(studies)

    assert len(together) == len(studies)
    for study, found in zip(studies, together, strict=True):
        alone = predictor.score_pictures(study)
        assert found.study == alone.study
        np.testing.assert_array_equal(found.images, alone.images)


def test_slice_without_anything_assessed_has_no_say(predictor: PicturePredictor) -> None:
    empty = picture(GREY)
    empty.mask[:] = False

    found = predictor.score_pictures([empty, picture(0.7)])

    assert found.study == pytest.approx(0.2)


@pytest.mark.parametrize(("how", "expected"), [("max", 8.0), ("mean", 4.5), ("top_quartile", 7.5)])
def test_slices_become_a_study_as_the_manifest_says(how: str, expected: float) -> None:
    assert join_slices(np.array([1.0, 4.0, 2.0, 3.0, 8.0, 6.0, 5.0, 7.0]), how) == expected


def test_map_of_a_volume_lies_on_its_own_voxels(predictor: PicturePredictor) -> None:
    scores = predictor.predict(volume(spotted()))

    assert scores.map.shape == (5, *SIZE)
    assert scores.map[2, 7, 11] == pytest.approx(0.5 / DISPLAY_MAX, abs=1e-6)
    assert scores.map[1].max() == pytest.approx(0, abs=1e-6)
    assert scores.study_score == pytest.approx(0.5)
    assert scores.p_value == 1 / (len(SCORES) + 1)


def test_volume_stored_another_way_gets_the_same_numbers_at_the_same_places(
    predictor: PicturePredictor,
) -> None:
    straight = volume(spotted())
    # The same patient, stored with columns to the feet, rows to the left and slices to the front.
    turned_voxels = np.ascontiguousarray(spotted().transpose(1, 2, 0)[::-1, :, ::-1])
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, -1]])
    turned = volume(turned_voxels, affine)

    first, second = predictor.predict(straight), predictor.predict(turned)

    assert second.study_score == first.study_score
    np.testing.assert_allclose(second.map, first.map.transpose(1, 2, 0)[::-1, :, ::-1], atol=1e-6)


def test_region_above_the_lowest_band_is_reported(tmp_path: Path) -> None:
    voxels = spotted()
    voxels[1:4, 4:10, 6:13] = 1.0  # Swallows the spot.

    scores = opened(write_artefact(tmp_path / "grey")).predict(volume(voxels))

    assert scores.bands[0] == pytest.approx(HIGHEST / DISPLAY_MAX, abs=1e-6)
    assert [region.volume_mm3 for region in scores.regions] == [3 * 6 * 7]


def test_same_volume_gives_the_same_bytes(predictor: PicturePredictor) -> None:
    given = volume(np.random.default_rng(0).random((4, 20, 30), dtype=np.float32))

    assert predictor.predict(given).map.tobytes() == predictor.predict(given).map.tobytes()


def test_constant_volume_is_not_assessable(predictor: PicturePredictor) -> None:
    with pytest.raises(NotAssessableError) as found:
        predictor.predict(volume(np.full((4, *SIZE), 3.0, dtype=np.float32)))

    assert found.value.reason is Reason.CONSTANT_PIXELS


def test_grey_series_is_not_assessable_by_a_model_of_colour(tmp_path: Path) -> None:
    folder = write_artefact(tmp_path / "colour", channels=2)
    contract = ImageContract(size=SIZE, channels=2, steps=(TakeChannels(channels=(0, 1)),))
    write_manifest(folder, manifest(input=contract))

    with pytest.raises(NotAssessableError) as found:
        opened(folder).predict(volume(spotted()))

    assert found.value.reason is Reason.WRONG_MODALITY


def test_network_of_another_contract_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    folder = write_artefact(tmp_path / "grey")
    write_network(folder / NETWORK, channels=3)
    write_manifest(folder, manifest())

    with pytest.raises(ArtefactError, match=NETWORK):
        opened(folder)


def test_network_without_an_output_of_the_manifest_is_refused(tmp_path: Path) -> None:
    folder = write_artefact(tmp_path / "grey")
    write_manifest(folder, manifest(outputs=("image_score", "pixel_score", "reconstruction")))

    with pytest.raises(ArtefactError, match="outputs"):
        opened(folder)


@pytest.mark.parametrize("output", ["image_score", "pixel_score"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_with_one_value_that_is_no_number_is_no_calm_picture(
    predictor: PicturePredictor, output: str, value: float
) -> None:
    """The score of a slice among others, or one pixel of one map."""
    at = 3 if output == "image_score" else (3, 0, 5, 5)

    with pytest.raises(NoNumberError):
        predictor.through(Wordless(predictor.runner, output, value, at)).predict(volume(spotted()))


def test_score_that_is_no_number_is_never_a_result(predictor: PicturePredictor) -> None:
    with pytest.raises(NoNumberError, match="no number"):
        predictor.score_pictures([picture(float("inf"))])
