from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artefact import Applicability
from models.errors import NotAssessableError, Reason
from models.evaluation.dataset import read_data_record, read_nifti
from models.making.brain.record import read_record
from models.validity import check_acquisition, check_pixels, check_volume
from models.volume import Acquisition, Volume

Brain = Callable[..., Volume]
RECORD = Path(__file__).parents[2] / "models" / "records" / "cevae-t1.yaml"
GOOD = Acquisition(modality="MR", body_part="BRAIN", description="T1 MPRAGE SAG", age_years=40)


@pytest.fixture(scope="module")
def limits() -> Applicability:
    return read_record(RECORD).applicability


def reason_of(volume: Volume, limits: Applicability) -> Reason:
    with pytest.raises(NotAssessableError) as refusal:
        check_volume(volume, limits)
    return refusal.value.reason


def test_t1_of_an_adult_brain_passes(limits: Applicability) -> None:
    check_acquisition(GOOD, limits)
    check_acquisition(Acquisition(modality="MR"), limits)


@pytest.mark.parametrize(
    "description",
    ["T1 3D", "T1 MPRAGE", "MPRAGE", "T1w", "T1 TSE", "T1 SYNTHETIC LESION 25 mm +2 SD", "T1 POSTERIOR +CSF"],
)
def test_description_of_a_plain_t1_passes(limits: Applicability, description: str) -> None:
    check_acquisition(replace(GOOD, description=description), limits)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"modality": "CT"}, Reason.WRONG_MODALITY),
        ({"modality": ""}, Reason.WRONG_MODALITY),
        ({"body_part": "KNEE"}, Reason.WRONG_BODY_PART),
        ({"description": "AX T2 FLAIR"}, Reason.WRONG_SEQUENCE),
        ({"description": "ep2d_dwi_b1000"}, Reason.WRONG_SEQUENCE),
        ({"description": "t2w tse tra"}, Reason.WRONG_SEQUENCE),
        ({"description": "gre field mapping 2mm"}, Reason.WRONG_SEQUENCE),
        ({"description": "t1_tirm_tra_dark-fluid"}, Reason.WRONG_SEQUENCE),
        ({"description": "DarkFluid sag"}, Reason.WRONG_SEQUENCE),
        ({"description": "ep2d_resting"}, Reason.WRONG_SEQUENCE),
        ({"description": "T1 MPRAGE POST"}, Reason.WRONG_SEQUENCE),
        ({"description": "t1 mprage postcontrast"}, Reason.WRONG_SEQUENCE),
        ({"description": "T1 GD"}, Reason.WRONG_SEQUENCE),
        ({"description": "t1_mprage_gado"}, Reason.WRONG_SEQUENCE),
        ({"description": "T1 mprage KM"}, Reason.WRONG_SEQUENCE),
        ({"description": "T1 +C"}, Reason.WRONG_SEQUENCE),
        ({"description": "T1+C sag"}, Reason.WRONG_SEQUENCE),
        ({"description": "AX T1 C+"}, Reason.WRONG_SEQUENCE),
        ({"contrast_agent": True}, Reason.WRONG_SEQUENCE),
        ({"description": "3-plane localizer"}, Reason.LOCALISER),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, Reason.LOCALISER),
        ({"image_type": ("DERIVED", "SECONDARY", "PROJECTION IMAGE")}, Reason.DERIVED),
        ({"age_years": 6.0}, Reason.WRONG_AGE),
        ({"is_lossy": True}, Reason.LOSSY),
        ({"is_burned_in": True}, Reason.BURNED_IN),
    ],
)
def test_series_outside_the_card_is_refused_with_its_reason(
    limits: Applicability, change: dict[str, object], reason: Reason
) -> None:
    with pytest.raises(NotAssessableError) as refusal:
        check_acquisition(replace(GOOD, **change), limits)  # type: ignore[arg-type]

    assert refusal.value.reason is reason


def test_stripped_brain_passes(brain: Brain, limits: Applicability) -> None:
    check_volume(brain(), limits)


def test_all_zero_volume_is_constant(limits: Applicability) -> None:
    volume = Volume(voxels=np.zeros((80, 90, 80), np.float32), spacing_mm=(2, 2, 2), affine=np.eye(4))

    assert reason_of(volume, limits) is Reason.CONSTANT_PIXELS


def test_few_slices_are_refused(brain: Brain, limits: Applicability) -> None:
    volume = brain()

    assert reason_of(replace(volume, voxels=volume.voxels[40:48]), limits) is Reason.TOO_FEW_SLICES


def test_thick_slices_are_refused(brain: Brain, limits: Applicability) -> None:
    assert reason_of(brain(spacing_mm=(5.0, 1.0, 1.0)), limits) is Reason.WRONG_EXTENT


def test_small_object_is_refused_by_its_size(brain: Brain, limits: Applicability) -> None:
    volume = brain()
    small = replace(volume, affine=volume.affine @ np.diag([0.5, 0.5, 0.5, 1]), spacing_mm=(1.0, 1.0, 1.0))

    assert reason_of(small, limits) is Reason.WRONG_EXTENT


def test_field_of_metres_is_refused_before_memory_is_taken(brain: Brain, limits: Applicability) -> None:
    volume = brain()
    huge = replace(volume, affine=volume.affine @ np.diag([1e5, 1e5, 1e5, 1]))

    assert reason_of(huge, limits) is Reason.WRONG_EXTENT


def test_half_a_brain_is_refused_by_its_height(brain: Brain, limits: Applicability) -> None:
    volume = brain()
    voxels = volume.voxels.copy()
    voxels[:35] = 0

    assert reason_of(replace(volume, voxels=voxels), limits) is Reason.WRONG_EXTENT


def test_noise_around_the_brain_is_not_stripped(brain: Brain, limits: Applicability) -> None:
    volume = brain()
    noise = np.random.default_rng(0).uniform(1, 8, volume.voxels.shape).astype(np.float32)

    assert reason_of(replace(volume, voxels=volume.voxels + noise), limits) is Reason.NOT_SKULL_STRIPPED


def test_real_heads_are_refused_and_real_stripped_brains_pass(test_data: Path, limits: Applicability) -> None:
    folder = test_data / "brain-mri-t1"
    for entry in read_data_record(folder).volumes:
        volume = read_nifti(folder / entry.file)
        if entry.reason is None:
            check_volume(volume, limits)
        else:
            assert reason_of(volume, limits) is Reason.NOT_SKULL_STRIPPED
            # Scanners that blank the air must not open a back door.
            blanked = np.where(volume.voxels > 0.1 * volume.voxels.max(), volume.voxels, 0)
            assert reason_of(replace(volume, voxels=blanked), limits) is Reason.NOT_SKULL_STRIPPED


def test_real_lesion_volumes_of_another_scanner_pass(test_data: Path, limits: Applicability) -> None:
    folder = test_data / "brain-mri-ms"
    for entry in read_data_record(folder).volumes:
        check_volume(read_nifti(folder / entry.file), limits)


def test_slices_without_an_image_inside_the_stack_are_refused_and_beyond_it_are_not(
    brain: Brain, limits: Applicability
) -> None:
    volume = brain()
    voxels = volume.voxels.copy()
    voxels[40:42] = 0

    assert reason_of(replace(volume, voxels=voxels), limits) is Reason.BLANK_SLICES
    assert not volume.voxels[0].any()  # the air above a brain is no blank slice
    check_volume(volume, limits)


def test_tissue_that_was_clipped_is_refused(brain: Brain, limits: Applicability) -> None:
    """A saturated scan has no lesion where it is brightest, and would look normal there."""
    volume = brain()
    clipped = np.minimum(volume.voxels, np.percentile(volume.voxels[volume.voxels > 0], 90))

    assert reason_of(replace(volume, voxels=clipped.astype(np.float32)), limits) is Reason.CLIPPED


def test_a_picture_that_is_mostly_white_is_clipped() -> None:
    picture = np.full((1, 20, 20), 255, np.float32)
    picture[0, :4] = np.arange(80).reshape(4, 20)

    with pytest.raises(NotAssessableError) as refusal:
        check_pixels(picture)

    assert refusal.value.reason is Reason.CLIPPED
    picture[0, :11] = np.arange(220).reshape(11, 20)
    check_pixels(picture)


def test_writing_on_every_slice_is_found_whatever_the_header_says() -> None:
    rng = np.random.default_rng(4)
    stack = rng.uniform(0.1, 1.0, (20, 64, 64)).astype(np.float32)
    check_pixels(stack)
    marked = stack.copy()
    marked[:, 4, 4:30] = 1.5  # strokes of one pixel
    marked[:, 4:12, 4] = 1.5

    with pytest.raises(NotAssessableError) as refusal:
        check_pixels(marked)

    assert refusal.value.reason is Reason.BURNED_IN
    wide = stack.copy()
    wide[:, 4:30, 4:30] = 1.5  # a marker or an insert, no writing
    check_pixels(wide)
    check_pixels(marked[:4])  # too few to tell
