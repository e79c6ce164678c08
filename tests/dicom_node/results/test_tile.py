import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.results import ResultKind, codes, encode
from dicom_node.results.tile import paint_words
from models.errors import Reason
from tests.dicom_node.results.scenes import PHANTOM, by_kind, context_of, refused
from tests.end_to_end.peers import dciodvfy_errors

MOST_ROWS = 800
PICTURES = MultiFrameTrueColorSecondaryCaptureImageStorage


def superseding(reason: Reason = Reason.DRIFTED, **changes: object) -> dict[str, Dataset]:
    context = refused(PHANTOM.datasets(), reason)
    return by_kind(replace(context, **{"shown_as": PICTURES, **changes}))  # type: ignore[arg-type]


def test_pictures_of_an_earlier_score_are_superseded_by_one_of_words() -> None:
    results = superseding()
    source = PHANTOM.datasets()[0]

    assert list(results) == ["sc", "sr"]
    tile = results["sc"]
    assert tile.StudyInstanceUID == source.StudyInstanceUID
    assert tile.SeriesInstanceUID not in {source.SeriesInstanceUID, results["sr"].SeriesInstanceUID}
    assert tile.pixel_array.shape == (tile.Rows, tile.Columns, 3)
    for said in ("NOT ASSESSABLE", "NA-29", codes.ALL_SUPERSEDED, codes.NO_DIAGNOSIS):
        assert said in tile.DerivationDescription
    assert "ercentile 8" not in tile.DerivationDescription


@pytest.mark.parametrize(
    ("shown_as", "expected"),
    [
        (SecondaryCaptureImageStorage, SecondaryCaptureImageStorage),
        (PICTURES, PICTURES),
        (SegmentationStorage, PICTURES),
    ],
)
def test_it_is_of_the_class_that_the_archive_took_before(shown_as: str, expected: str) -> None:
    assert superseding(shown_as=shown_as)["sc"].SOPClassUID == expected


@pytest.mark.parametrize("kinds", [{"sr"}, {"sr", "seg"}])
def test_they_are_superseded_also_where_a_site_has_no_pictures_made_any_more(kinds: set[str]) -> None:
    assert "sc" in superseding(kinds=frozenset(map(ResultKind, kinds)))


def test_where_nothing_was_shown_before_there_is_the_report_alone() -> None:
    assert list(by_kind(refused(PHANTOM.datasets()))) == ["sr"]


def test_a_score_has_its_own_pictures_whatever_was_there_before(tmp_path: Path) -> None:
    context = context_of(tmp_path, PHANTOM.datasets())
    assert by_kind(replace(context, shown_as=PICTURES)) == by_kind(context)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_can_be_read(reason: Reason) -> None:
    code = codes.REASONS[reason]
    pixels = paint_words("NOT ASSESSABLE", [f"{code.value}: {code.meaning}.", codes.NOT_ASSESSED])
    assert pixels.shape[0] < MOST_ROWS
    assert (pixels[:, -24:] == 0).all()  # nothing runs out of the picture


@pytest.mark.peers
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy")
def test_a_validator_accepts_it(tmp_path: Path) -> None:
    (tmp_path / "sc.dcm").write_bytes(encode(superseding()["sc"]))
    assert dciodvfy_errors(tmp_path / "sc.dcm") == []
