from dataclasses import replace

import pytest

from models.groups import UNSTATED, Group, age_band, sequence_of
from models.volume import Acquisition

HEAD = Acquisition(
    modality="MR",
    body_part="BRAIN",
    description="t1_mprage_sag",
    manufacturer="Siemens Healthineers",
    model_name="Skyra  fit",
    age_years=52,
)


@pytest.mark.parametrize(
    ("years", "band"),
    [(None, UNSTATED), (0, "0-17"), (17.9, "0-17"), (18, "18-39"), (59, "40-59"), (80, "80+"), (101, "80+")],
)
def test_every_age_is_in_one_band(years: float | None, band: str) -> None:
    assert age_band(years) == band


@pytest.mark.parametrize(
    ("description", "sequence"),
    [
        ("t1_mprage_sag", "T1"),
        ("AX T2 FLAIR", "FLAIR"),
        ("t2_tse_tra", "T2"),
        ("ep2d_diff_b1000_ADC", "DWI"),
        ("Sag SPGR", "T1"),
        ("PD fs", "PD"),
        ("series 3", UNSTATED),
    ],
)
def test_a_sequence_is_read_from_the_description(description: str, sequence: str) -> None:
    assert sequence_of(replace(HEAD, description=description)) == sequence


def test_contrast_makes_another_sequence_and_only_mr_has_one() -> None:
    assert sequence_of(replace(HEAD, contrast_agent=True)) == "T1+C"
    assert sequence_of(replace(HEAD, modality="CT")) == UNSTATED


def test_a_group_is_widened_from_its_end_and_keeps_what_makes_images_alike() -> None:
    group = Group.of(HEAD, "north")

    wider = group.widened()

    assert [one.label for one in wider] == [
        "MR, BRAIN, T1, SIEMENS, SKYRA FIT, 40-59 years, north",
        "MR, BRAIN, T1, SIEMENS, SKYRA FIT, 40-59 years",
        "MR, BRAIN, T1, SIEMENS, SKYRA FIT",
        "MR, BRAIN, T1, SIEMENS",
        "MR, BRAIN, T1",
    ]
    assert all(one.holds(group) for one in wider)
    assert not wider[0].holds(wider[1])


def test_what_must_agree_is_never_given_up() -> None:
    group = Group.of(HEAD, "north")

    assert {one.model_name for one in group.widened(("modality", "manufacturer", "model_name"))} == {
        "SKYRA FIT"
    }


def test_a_header_that_says_nothing_is_a_group_of_its_own() -> None:
    group = Group.of(Acquisition(modality="CT"), "")

    assert group.manufacturer == group.age_band == group.site == UNSTATED
    assert group.label == "CT"
