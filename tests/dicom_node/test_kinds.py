import pytest

from dicom_node.kinds import DEFAULT_KINDS, ResultKind, read_kinds


def test_a_list_names_its_kinds_in_any_order() -> None:
    assert read_kinds("seg,sc,sr") == DEFAULT_KINDS
    assert read_kinds("sr, pm") == {ResultKind.REPORT, ResultKind.PARAMETRIC_MAP}


@pytest.mark.parametrize("text", ["", "seg,sr,heatmap", "SR", "sr,"])
def test_a_name_nobody_knows_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is none of"):
        read_kinds(text)


def test_the_report_is_never_left_out() -> None:
    with pytest.raises(ValueError, match="never left out"):
        read_kinds("seg,sc")
