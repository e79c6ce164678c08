import pytest

from models.errors import Reason
from service.store.jobs import SUPERSEDED
from service.study import Band, DeliveryStatus, State
from service.triage import ATTEMPTS_USED_UP, CODES
from service.web import words


@pytest.mark.parametrize("code", [*Reason, *CODES.values(), ATTEMPTS_USED_UP, SUPERSEDED])
def test_every_reason_has_a_sentence(code: str) -> None:
    assert words.reason(code).endswith(".")
    assert not words.reason(code).startswith("Reason code")


def test_a_reason_nobody_knows_is_shown_as_it_is() -> None:
    assert "brand_new" in words.reason("brand_new")
    assert words.reason(None) == "No reason was recorded."


def test_every_code_has_words() -> None:
    assert set(words.STATES) == set(words.STATE_MEANINGS) == set(State)
    assert set(words.STATUSES) == set(words.MARKS) == set(DeliveryStatus)
    assert set(words.BANDS) == set(Band)


def test_a_failed_delivery_does_not_look_like_one_that_arrived() -> None:
    assert words.MARKS[DeliveryStatus.UNDELIVERED] != words.MARKS[DeliveryStatus.DELIVERED]
    assert words.MARKS[DeliveryStatus.WAITING] != words.MARKS[DeliveryStatus.DELIVERED]
