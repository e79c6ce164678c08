import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.web import links

FORM = dict.fromkeys(links.FILTERS, "")


def test_what_a_form_leaves_empty_is_not_in_the_address() -> None:
    assert links.tidy(FORM | {"text": " brain ", "sort": "triage", "unknown": "x"}) == {"text": "brain"}


def test_with_nobody_is_an_empty_value_in_the_address() -> None:
    assert links.address(links.tidy(FORM | {"assigned_to": "nobody"})) == "/?assigned_to="


def test_a_day_of_the_form_becomes_its_midnight_here_and_is_shown_again() -> None:
    kept = links.tidy(FORM | {"received_from": "2026-03-02"})["received_from"]
    assert kept.startswith("2026-03-02T00:00:00")
    assert kept[-6] in "+-"  # with a zone
    assert links.day(kept) == "2026-03-02"


def test_what_is_no_day_is_left_to_be_refused() -> None:
    assert links.tidy(FORM | {"received_to": "tomorrow"}) == {"received_to": "tomorrow"}


def test_a_query_keeps_filters_alone() -> None:
    assert links.known("text=a&cursor=zzz&live=off&assigned_to=") == {"text": "a", "assigned_to": ""}


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil", "", "/a\nb"])
def test_nobody_is_led_elsewhere(target: str) -> None:
    assert links.inside(target) == "/"


@given(st.dictionaries(st.sampled_from(links.FILTERS), st.text(min_size=1)))
def test_an_address_says_what_was_asked(asked: dict[str, str]) -> None:
    assert links.known(links.address(asked).partition("?")[2]) == asked
