"""Tests for looking for whom something is about."""

import pytest

from tests.whom import told_of


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("1931", '{"born": "1931-07-13"}'),
        ("1931", "born 1931."),
        ("1931", '{"year":1931}'),
        ("Doe", "DOE^JANE"),
        ("Doe", "jane_doe.nii.gz"),
        ("P-17", "?identifier=P-17&x"),
        ("Zwxfamily", "dr.zwxfamily2"),
    ],
)
def test_a_word_is_found_where_somebody_could_read_it(word: str, said: str) -> None:
    assert told_of(["Other", word], said) == [word]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("1931", "2026-11-22T01:12:21.193100Z"),
        ("1931", "2026-11-22T01:12:21.1931Z"),
        ("1931", "9d1931c0"),
        ("1931", "0f6d2e6e-1c4f-1931-8a53-2b1f6f9c0d11"),
        ("Doe", "g4doe52iakuns65n2dz2"),
    ],
)
def test_what_is_random_tells_of_nobody(word: str, said: str) -> None:
    assert told_of([word], said) == []
